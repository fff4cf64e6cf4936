//! Which photographs are the same picture twice.

use crate::embeddings::Neighbor;
use crate::thumbnail::Fingerprint;

/// Embeddings that are less similar than this are not looked at.
const SIMILAR: f32 = 0.9;

/// For each photograph the first one of which it is a near-duplicate, or none.
///
/// Two are near-duplicates when their embeddings have a cosine similarity of at least 0.9 and their pixels are
/// [nearly equal](Fingerprint::is_nearly): an encoder finds two pictures of one scene alike, which are no duplicates. Only
/// the neighbors given are compared; larger sets are found from neighbor to neighbor.
pub fn duplicates(neighbors: &[Vec<Neighbor>], fingerprints: &[Fingerprint]) -> Vec<Option<usize>> {
    let mut first: Vec<usize> = (0..neighbors.len()).collect();
    for (a, near) in neighbors.iter().enumerate() {
        for b in near.iter().filter(|n| n.similarity >= SIMILAR).map(|n| n.index) {
            if fingerprints[a].is_nearly(&fingerprints[b]) {
                let (a, b) = (root(&first, a), root(&first, b));
                first[a.max(b)] = a.min(b);
            }
        }
    }
    (0..first.len()).map(|i| Some(root(&first, i)).filter(|&root| root != i)).collect()
}

fn root(first: &[usize], mut i: usize) -> usize {
    while first[i] != i {
        i = first[i];
    }
    i
}
