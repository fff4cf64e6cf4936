//! Stochastic depth (Huang et al. 2016, arXiv:1603.09382), which timm calls drop path.

use portolan_tensor::{Kind, Tensor};

/// In training, zeroes a branch `[batch, …]` for each image with this probability, and scales it up
/// for the others, so that the mean stays.
pub(crate) fn drop_path(branch: Tensor, probability: f64, train: bool) -> Tensor {
    if !train || probability == 0.0 {
        return branch;
    }
    let keep = 1.0 - probability;
    let mut shape = vec![1; branch.dim()];
    shape[0] = branch.size()[0];
    let mut kept = branch.new_empty(shape, (Kind::Float, branch.device()));
    let kept = kept.bernoulli_float_(keep) / keep;
    branch * kept
}

#[cfg(test)]
mod tests {
    use portolan_tensor::Device;

    use super::*;

    #[test]
    fn stochastic_depth_drops_whole_images_in_training_only_and_keeps_the_mean() {
        portolan_tensor::seed(0);
        for shape in [vec![4000, 2, 4], vec![4000, 2, 2, 2]] {
            let ones = Tensor::ones(shape, (Kind::Float, Device::Cpu));
            assert_eq!(drop_path(ones.copy(), 0.25, false), ones);
            let dropped = drop_path(ones, 0.25, true);
            let per_image = dropped.view([4000, 8]);
            assert_eq!(per_image.amax(1, false), per_image.amin(1, false));
            let mean = dropped.mean(Kind::Float).double_value(&[]);
            assert!((mean - 1.0).abs() < 0.05, "{mean}");
        }
    }
}
