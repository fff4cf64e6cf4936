//! The order of the images in an epoch.

use portolan_random::{Purpose, Stream, stream};
use rand::RngExt;
use rand::seq::SliceRandom;
use std::ops::Range;

/// Size of the shuffle buffer in images, a usual choice with WebDataset.
const BUFFER: usize = 1_000;

/// The order of `items` images in this epoch: a permutation of `0..items` that depends only on the
/// seed.
///
/// If images are stored in shards (large files of consecutive images), each batch of `batch_size`
/// is divided into lanes, which are equal parts. Each lane reads its own shards one after another,
/// from front to back, through a shuffle buffer. A process takes the same part of every batch, so
/// if the number of processes divides that of lanes, it reads only the shards of its lanes.
pub(crate) fn order(
    items: usize,
    shards: Vec<Range<usize>>,
    batch_size: usize,
    seed: u64,
    epoch: u64,
) -> Vec<usize> {
    let mut random = stream(seed, Purpose::Order, &[epoch]);
    if shards.len() < 2 {
        let mut order: Vec<usize> = (0..items).collect();
        order.shuffle(&mut random);
        return order;
    }
    let lanes = (1..=shards.len()).rev().find(|&n| batch_size.is_multiple_of(n)).unwrap_or(1);
    let lanes = deal(shards, lanes, &mut random);
    let lanes = lanes.into_iter().map(|items| draw_from_buffer(items, &mut random)).collect();
    merge(lanes, batch_size)
}

/// The items of each lane, shard by shard. Shards in random order go to the lane with the fewest
/// items so far.
fn deal(mut shards: Vec<Range<usize>>, lanes: usize, random: &mut Stream) -> Vec<Vec<usize>> {
    shards.shuffle(random);
    let mut dealt = vec![Vec::new(); lanes];
    for shard in shards {
        if let Some(shortest) = dealt.iter_mut().min_by_key(|lane| lane.len()) {
            shortest.extend(shard);
        }
    }
    dealt
}

/// Shuffles items through a buffer of `BUFFER` items.
fn draw_from_buffer(items: Vec<usize>, random: &mut Stream) -> Vec<usize> {
    let mut rest = items.into_iter();
    let mut buffer: Vec<usize> = rest.by_ref().take(BUFFER).collect();
    let mut drawn = Vec::with_capacity(buffer.len() + rest.len());
    while !buffer.is_empty() {
        let at = random.random_range(0..buffer.len());
        drawn.push(match rest.next() {
            Some(next) => std::mem::replace(&mut buffer[at], next),
            None => buffer.swap_remove(at),
        });
    }
    drawn
}

/// Joins equal parts of all lanes into batches. An exhausted lane takes items from the one with the
/// most left.
fn merge(lanes: Vec<Vec<usize>>, batch_size: usize) -> Vec<usize> {
    let (part, items) = (batch_size / lanes.len(), lanes.iter().map(Vec::len).sum());
    let mut lanes: Vec<_> = lanes.into_iter().map(Vec::into_iter).collect();
    let mut order = Vec::with_capacity(items);
    while order.len() < items {
        for lane in 0..lanes.len() {
            for _ in 0..part {
                let next = lanes[lane].next();
                let instead = || lanes.iter_mut().max_by_key(|lane| lane.len())?.next();
                order.extend(next.or_else(instead));
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(n: usize, of: usize) -> Vec<Range<usize>> {
        (0..n).map(|i| i * of..(i + 1) * of).collect()
    }

    #[test]
    fn every_epoch_has_its_own_order_of_all_items() {
        for shards in [vec![], shards(5, 10)] {
            let of = |seed, epoch| order(50, shards.clone(), 8, seed, epoch);
            assert_eq!(of(0, 0), of(0, 0));
            assert_ne!(of(0, 0), of(0, 1));
            assert_ne!(of(0, 0), of(1, 0));
            for mut order in [of(0, 0), of(0, 1)] {
                order.sort_unstable();
                assert_eq!(order, (0..50).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn each_of_two_processes_reads_shards_of_its_own() {
        let order = order(800, shards(8, 100), 16, 3, 0);
        let of = |process: usize| {
            let own = order.chunks(16).flat_map(|batch| &batch[process * 8..][..8]);
            let mut shards: Vec<usize> = own.map(|item| item / 100).collect();
            shards.sort_unstable();
            shards.dedup();
            shards
        };
        let (first, second) = (of(0), of(1));
        assert_eq!((first.len(), second.len()), (4, 4));
        assert!(first.iter().all(|shard| !second.contains(shard)));
    }

    #[test]
    fn a_lane_goes_through_its_shards_one_after_another_and_mixes_within_the_buffer() {
        let order = order(12_000, shards(4, 3_000), 2, 0, 0);
        let lane: Vec<usize> = order.into_iter().step_by(2).collect();
        assert_eq!(lane.len(), 6_000);
        let first = lane[0] / 3_000;
        assert!(lane[..2_000].iter().all(|item| item / 3_000 == first), "the first shard first");
        for (drawn, item) in lane[..2_000].iter().enumerate() {
            assert!(item % 3_000 < drawn + BUFFER, "{item} was not read yet");
        }
        let ordered = lane.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
        assert!(ordered < 60, "{ordered} of 6,000 follow the one before them");
    }

    #[test]
    fn shards_of_unequal_sizes_are_all_read() {
        let mut order = order(107, vec![0..3, 3..100, 100..101, 101..107], 4, 0, 0);
        order.sort_unstable();
        assert_eq!(order, (0..107).collect::<Vec<_>>());
    }
}
