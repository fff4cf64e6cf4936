//! Features of passages.

use portolan_encoders::{TextEncoder, mean_of_tokens};
use portolan_method::Result;
use portolan_tensor::{Device, Kind, Tensor, no_grad};

use crate::Sequences;

/// Passages of which features are computed at once.
const BATCH: usize = 64;

/// The features of passages: the mean of the last layer over the tokens of each, `[passages,
/// width]`, float32 on the CPU.
///
/// # Errors
/// When a passage has more tokens than the encoder has positions.
pub fn features(
    encoder: &dyn TextEncoder,
    sequences: &Sequences,
    device: Device,
) -> Result<Tensor> {
    let all: Vec<usize> = (0..sequences.len()).collect();
    let mut rows = Vec::new();
    for part in all.chunks(BATCH) {
        let x = no_grad(|| passage_features(encoder, sequences, part, device, false))?;
        rows.push(x.to_device(Device::Cpu));
    }
    Ok(Tensor::cat(&rows, 0))
}

/// The features of these passages, by index: `[n, width]`, float32.
pub(crate) fn passage_features(
    encoder: &dyn TextEncoder,
    sequences: &Sequences,
    which: &[usize],
    device: Device,
    train: bool,
) -> Result<Tensor> {
    let positions = encoder.config().positions;
    // A window of GPT has one token more than there are positions.
    let within = |x: &Tensor| x.narrow(1, 0, positions.min(x.size()[1]));
    let inputs: Vec<Tensor> = sequences.batch(which, device).iter().map(within).collect();
    let mask = inputs.get(1);
    let hidden = encoder.hidden(&inputs[0], mask, train)?;
    Ok(mean_of_tokens(&hidden, mask).to_kind(Kind::Float))
}

/// The words of each passage without their order: the logarithm of one plus the count of each
/// token, `[passages, vocabulary]`, scaled to length 1.
pub fn bag_of_words(sequences: &Sequences, vocabulary: usize) -> Tensor {
    let mut counts = vec![0f32; sequences.len() * vocabulary];
    for (row, ids) in sequences.ids().iter().enumerate() {
        for &id in ids {
            counts[row * vocabulary + id as usize] += 1.0;
        }
    }
    let counts = Tensor::from_slice(&counts).view([-1, vocabulary as i64]).log1p();
    let lengths = counts.norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
    counts / lengths.clamp_min(1e-6)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_encoders::{Bert, TextConfig};
    use portolan_tensor::{Vars, seed};

    #[test]
    fn padding_has_no_part_in_a_feature() {
        seed(0);
        let config =
            TextConfig { vocabulary: 9, positions: 5, width: 8, depth: 2, heads: 2, dropout: 0.0 };
        let encoder = Bert::new(&config, &Vars::new(Device::Cpu)).unwrap();
        let alone = Sequences::new(vec![vec![1, 5, 2]], Some(0));
        let padded = Sequences::new(vec![vec![1, 5, 2], vec![1, 3, 4, 5, 2]], Some(0));
        let of = |sequences| features(&encoder, sequences, Device::Cpu).unwrap().get(0);
        let difference = (of(&alone) - of(&padded)).abs().max().double_value(&[]);
        assert!(difference < 1e-5, "{difference}");
    }

    #[test]
    fn a_bag_of_words_knows_no_order() {
        let sequences = Sequences::new(vec![vec![1, 2, 2], vec![2, 1, 2], vec![3, 3, 3]], None);
        let bag = bag_of_words(&sequences, 4);
        assert_eq!(bag.size(), [3, 4]);
        assert_eq!(bag.get(0), bag.get(1));
        assert!((bag.get(2).double_value(&[3]) - 1.0).abs() < 1e-6);
    }
}
