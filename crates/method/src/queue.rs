//! The queue of negatives.

use portolan_tensor::{Device, Kind, Tensor, no_grad};

/// A ring buffer of the newest keys.
///
/// As in MoCo's code, it starts full of random unit vectors (`torch.randn`, normalized). They serve
/// as negatives until real keys replace them in the first `size / batch` steps.
#[derive(Debug)]
pub struct Queue {
    keys: Tensor,
    /// The index of the next key to replace. It is a tensor on the keys' device, so that no step
    /// waits to read it.
    pointer: Tensor,
}

impl Queue {
    /// A queue of `size` random keys of `dim` dimensions, drawn from libtorch's generator.
    pub fn new(size: i64, dim: i64, device: Device) -> Self {
        let random = Tensor::randn([size, dim], (Kind::Float, device));
        let length = random.square().sum_dim_intlist(1, true, Kind::Float).sqrt();
        Queue { keys: random / length, pointer: Tensor::zeros([1], (Kind::Int64, device)) }
    }

    /// The keys, `[size, dim]`, without gradients. The tensor shares the queue's memory: call
    /// [`Queue::enqueue`] only after the backward pass of a loss that uses it, or libtorch reports
    /// an error in that pass.
    pub fn keys(&self) -> Tensor {
        self.keys.shallow_clone()
    }

    /// Replaces the oldest keys by these, `[n, dim]`. If `n` exceeds the queue's size, the last
    /// keys are kept.
    pub fn enqueue(&self, keys: &Tensor) {
        no_grad(|| {
            let (size, n) = (self.keys.size()[0], keys.size()[0]);
            let count = n.min(size);
            let places = Tensor::arange_start(n - count, n, (Kind::Int64, keys.device()));
            let places = (places + &self.pointer).remainder(size);
            let _ = self.keys.shallow_clone().index_copy_(
                0,
                &places,
                &keys.narrow(0, n - count, count),
            );
            self.pointer.shallow_clone().copy_(&(&self.pointer + n).remainder(size));
        });
    }

    /// The named tensors for a checkpoint.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        vec![
            ("keys".to_owned(), self.keys.shallow_clone()),
            ("pointer".to_owned(), self.pointer.shallow_clone()),
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rows(values: std::ops::Range<i64>) -> Tensor {
        Tensor::arange_start(values.start, values.end, (Kind::Float, Device::Cpu)).view([-1, 1])
    }

    fn held(queue: &Queue) -> Vec<f32> {
        Vec::try_from(queue.keys().view([-1])).unwrap()
    }

    #[test]
    fn starts_as_random_directions() {
        let length =
            Queue::new(7, 16, Device::Cpu).keys().square().sum_dim_intlist(1, false, Kind::Float);
        assert!(length.allclose(&Tensor::ones([7], (Kind::Float, Device::Cpu)), 1e-5, 1e-5, false));
    }

    #[test]
    fn the_oldest_keys_make_room_also_across_the_end() {
        let queue = Queue::new(5, 1, Device::Cpu);
        queue.enqueue(&rows(0..3));
        queue.enqueue(&rows(3..6));
        assert_eq!(held(&queue), [5.0, 1.0, 2.0, 3.0, 4.0]);
        queue.enqueue(&rows(6..8));
        assert_eq!(held(&queue), [5.0, 6.0, 7.0, 3.0, 4.0]);
    }

    #[test]
    fn of_more_than_fit_the_last_are_kept() {
        let queue = Queue::new(3, 1, Device::Cpu);
        queue.enqueue(&rows(0..2));
        queue.enqueue(&rows(2..9));
        let mut all = held(&queue);
        all.sort_by(f32::total_cmp);
        assert_eq!(all, [6.0, 7.0, 8.0]);
        queue.enqueue(&rows(9..10)); // in the place of 6, the oldest
        let mut all = held(&queue);
        all.sort_by(f32::total_cmp);
        assert_eq!(all, [7.0, 8.0, 9.0]);
    }
}
