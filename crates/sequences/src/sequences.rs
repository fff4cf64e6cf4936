//! Sequences of token ids.

use portolan_tensor::{Device, Tensor, upload};

/// Sequences of token ids, which a batch pads to the longest of all.
#[derive(Clone, Debug)]
pub struct Sequences {
    ids: Vec<Vec<u32>>,
    padding: Option<u32>,
    longest: usize,
}

impl Sequences {
    /// Sequences of one length, or of several if there is a token for `padding`.
    ///
    /// # Panics
    /// When lengths differ and there is no padding.
    pub fn new(ids: Vec<Vec<u32>>, padding: Option<u32>) -> Self {
        let longest = ids.iter().map(Vec::len).max().unwrap_or(0);
        assert!(
            padding.is_some() || ids.iter().all(|sequence| sequence.len() == longest),
            "sequences of different lengths need padding"
        );
        Sequences { ids, padding, longest }
    }

    /// The number of sequences.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// These of them, by index.
    #[must_use]
    pub fn select(&self, which: &[usize]) -> Self {
        let ids = which.iter().map(|&i| self.ids[i].clone()).collect();
        Sequences { ids, padding: self.padding, longest: self.longest }
    }

    /// The number of tokens, without padding.
    pub fn tokens(&self) -> usize {
        self.ids.iter().map(Vec::len).sum()
    }

    /// Their ids.
    pub fn ids(&self) -> &[Vec<u32>] {
        &self.ids
    }

    /// The inputs of a batch of these sequences, by index: token ids, int64 `[batch, longest]`, and
    /// where some are shorter their mask, bool of the same shape, which is false at padding.
    /// Attention without a mask is faster.
    pub fn batch(&self, which: &[usize], device: Device) -> Vec<Tensor> {
        let shape = [which.len() as i64, self.longest as i64];
        let padding = i64::from(self.padding.unwrap_or(0));
        let (mut ids, mut mask) = (Vec::new(), Vec::new());
        for &i in which {
            let sequence = &self.ids[i];
            let missing = self.longest - sequence.len();
            ids.extend(sequence.iter().map(|&id| i64::from(id)));
            ids.extend(std::iter::repeat_n(padding, missing));
            mask.extend(std::iter::repeat_n(true, sequence.len()));
            mask.extend(std::iter::repeat_n(false, missing));
        }
        let on_device = |x: Tensor| upload(&x.view(shape), device);
        let mut inputs = vec![on_device(Tensor::from_slice(&ids))];
        if mask.contains(&false) {
            inputs.push(on_device(Tensor::from_slice(&mask)));
        }
        inputs
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shorter_sequences_are_padded_and_masked() {
        let sequences = Sequences::new(vec![vec![5, 6, 7], vec![8]], Some(9));
        let inputs = sequences.batch(&[1, 0], Device::Cpu);
        let ids = Vec::<i64>::try_from(inputs[0].view([-1])).unwrap();
        let mask = Vec::<bool>::try_from(inputs[1].view([-1])).unwrap();
        assert_eq!(ids, [8, 9, 9, 5, 6, 7]);
        assert_eq!(mask, [true, false, false, true, true, true]);
        assert_eq!(sequences.tokens(), 4);
        assert_eq!(sequences.batch(&[0], Device::Cpu).len(), 1, "nothing to mask");
        assert_eq!(Sequences::new(vec![vec![1, 2]], None).batch(&[0], Device::Cpu).len(), 1);
    }
}
