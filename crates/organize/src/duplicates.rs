//! Near-duplicates among images.

use crate::embeddings::Neighbor;
use crate::thumbnail::Fingerprint;

/// The least cosine similarity of near-duplicates.
const MIN_SIMILARITY: f32 = 0.9;

/// For each image the first one of which it is a near-duplicate, or `None`.
///
/// Two images are near-duplicates if their embeddings have a cosine similarity of at least 0.9 and
/// their pixels are [nearly equal](Fingerprint::is_nearly_equal). Similar embeddings alone do not
/// suffice: two different images of one scene have them too. Only the given neighbors are compared;
/// larger sets are found from neighbor to neighbor.
#[must_use]
pub fn duplicates(neighbors: &[Vec<Neighbor>], fingerprints: &[Fingerprint]) -> Vec<Option<usize>> {
    let mut first: Vec<usize> = (0..neighbors.len()).collect();
    for (a, near) in neighbors.iter().enumerate() {
        for b in near.iter().filter(|n| n.similarity >= MIN_SIMILARITY).map(|n| n.index) {
            if fingerprints[a].is_nearly_equal(&fingerprints[b]) {
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
