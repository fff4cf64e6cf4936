//! Sequences of tokens of one length.

/// Windows of `length` tokens and the one that follows, which share one token with the next window,
/// so that each token is predicted once. Tokens at the end that fill no window are left out.
pub fn windows(ids: &[u32], length: usize) -> Vec<&[u32]> {
    let starts = (0..ids.len().saturating_sub(length)).step_by(length.max(1));
    starts.map(|start| &ids[start..=start + length]).collect()
}

/// Passages of `length` tokens that start with `first` and end with `last`, as `[CLS] … [SEP]`. The
/// last passage may be shorter; one of a single token is left out.
pub fn passages(ids: &[u32], length: usize, first: u32, last: u32) -> Vec<Vec<u32>> {
    let inner = length.saturating_sub(2).max(1);
    let parts = ids.chunks(inner).filter(|part| part.len() > 1 || ids.len() == 1);
    parts.map(|part| [&[first], part, &[last]].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_predict_each_token_once() {
        let ids: Vec<u32> = (0..11).collect();
        let found = windows(&ids, 4);
        assert_eq!(found, [&ids[0..5], &ids[4..9]]);
        assert!(windows(&ids, 11).is_empty());
        assert_eq!(windows(&ids, 10), [&ids[..]]);
    }

    #[test]
    fn passages_hold_all_tokens_between_their_ends() {
        let ids: Vec<u32> = (10..17).collect();
        let found = passages(&ids, 5, 1, 2);
        assert_eq!(found, [vec![1, 10, 11, 12, 2], vec![1, 13, 14, 15, 2]]);
        assert_eq!(passages(&ids[..5], 5, 1, 2)[1], [1, 13, 14, 2]);
    }
}
