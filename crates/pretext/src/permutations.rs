//! A set of permutations that differ as much as possible.

/// `count` permutations of nine tiles, each as different as possible from those before it.
///
/// The algorithm of Noroozi and Favaro (section 4.2): each new permutation maximizes the Hamming
/// distance (the number of differing positions) to those already chosen. Here this is the largest
/// minimum distance; ties are broken by the largest sum of distances, then by lexicographic order.
/// Permutations that are too similar make the task ambiguous; too few make it easy.
pub fn permutations(count: usize) -> Vec<[u8; 9]> {
    let all = all_permutations();
    let count = count.min(all.len());
    let mut nearest = vec![u32::MAX; all.len()];
    let mut sum = vec![0u32; all.len()];
    let mut chosen = vec![all[0]];
    while chosen.len() < count {
        let last = chosen[chosen.len() - 1];
        let mut best = 0;
        for (i, permutation) in all.iter().enumerate() {
            let distance = distance(permutation, &last);
            nearest[i] = nearest[i].min(distance);
            sum[i] += distance;
            if (nearest[i], sum[i]) > (nearest[best], sum[best]) {
                best = i;
            }
        }
        chosen.push(all[best]);
    }
    chosen
}

/// The smallest Hamming distance between two of these permutations.
pub fn shortest_distance(set: &[[u8; 9]]) -> u32 {
    let pairs = (0..set.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
    pairs.map(|(i, j)| distance(&set[i], &set[j])).min().unwrap_or(9)
}

fn distance(a: &[u8; 9], b: &[u8; 9]) -> u32 {
    a.iter().zip(b).map(|(a, b)| u32::from(a != b)).sum()
}

/// All permutations of nine in lexicographic order.
fn all_permutations() -> Vec<[u8; 9]> {
    let mut all = vec![[0, 1, 2, 3, 4, 5, 6, 7, 8]];
    loop {
        let mut next = all[all.len() - 1];
        let Some(i) = (0..8).rev().find(|&i| next[i] < next[i + 1]) else { return all };
        let j = (i + 1..9).rev().find(|&j| next[j] > next[i]).unwrap_or(i + 1);
        next.swap(i, j);
        next[i + 1..].reverse();
        all.push(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_nine_differ_everywhere_and_more_stay_far_apart() {
        assert_eq!(all_permutations().len(), 362_880);
        let nine = permutations(9);
        assert_eq!(shortest_distance(&nine), 9, "a Latin square");
        let set = permutations(40);
        assert_eq!(set[..9], nine[..]);
        assert!(shortest_distance(&set) >= 7, "{}", shortest_distance(&set));
        for permutation in &set {
            let mut sorted = *permutation;
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        }
    }
}
