//! A model of character n-grams, which shows what little it takes to predict text.

use std::collections::HashMap;

use crate::{Document, Error, Result};

/// The bits of a character's number in a gram.
const BITS: u32 = 16;
/// The longest n-gram that fits into 128 bits.
const LONGEST: usize = (u128::BITS / BITS) as usize;

/// An n-gram model of characters with interpolated Kneser–Ney smoothing (Kneser and Ney 1995; Chen
/// and Goodman 1998, section 2.7): frequent n-grams count as they are, rare ones are discounted,
/// and what that frees goes to shorter n-grams, which count by how many different characters they
/// follow.
#[derive(Debug)]
pub struct KneserNey {
    /// The number of each character, from 1; 0 stands before a document.
    alphabet: HashMap<char, u128>,
    /// The orders, from single characters to the longest n-grams.
    orders: Vec<Order>,
}

/// The n-grams of one length.
#[derive(Debug, Default)]
struct Order {
    counts: HashMap<u128, u32>,
    contexts: HashMap<u128, Context>,
    discount: f64,
}

/// What follows a context.
#[derive(Clone, Copy, Debug, Default)]
struct Context {
    /// How often anything does.
    total: u32,
    /// How many different characters do.
    kinds: u32,
}

impl KneserNey {
    /// Counts the n-grams of up to `order` characters of these documents.
    ///
    /// # Errors
    /// When there is no text, more than 65,535 different characters, or `order` is not between 1
    /// and 8.
    pub fn train(order: usize, documents: &[Document]) -> Result<Self> {
        if !(1..=LONGEST).contains(&order) {
            return Err(Error::Setting(format!(
                "n-grams of {order} characters are not possible; choose 1 to {LONGEST}"
            )));
        }
        let mut alphabet = HashMap::new();
        for c in documents.iter().flat_map(|document| document.text.chars()) {
            let next = alphabet.len() as u128 + 1;
            alphabet.entry(c).or_insert(next);
        }
        if alphabet.is_empty() || alphabet.len() >= 1 << BITS {
            return Err(Error::Missing(format!(
                "a model of n-grams needs text of 1 to 65,535 different characters, and there are \
                 {}",
                alphabet.len()
            )));
        }
        let mut longest: HashMap<u128, u32> = HashMap::new();
        for document in documents {
            let mut gram = 0;
            for c in document.text.chars() {
                gram = push(gram, alphabet[&c], order);
                *longest.entry(gram).or_default() += 1;
            }
        }
        let mut orders = vec![Order::of(longest)];
        for length in (1..order).rev() {
            // An n-gram counts once for each character that it was seen after.
            let mut counts: HashMap<u128, u32> = HashMap::new();
            for gram in orders[orders.len() - 1].counts.keys() {
                *counts.entry(last(*gram, length)).or_default() += 1;
            }
            orders.push(Order::of(counts));
        }
        orders.reverse();
        Ok(KneserNey { alphabet, orders })
    }

    /// The mean negative log probability of the documents' characters, in bits.
    pub fn bits_per_character(&self, documents: &[Document]) -> f64 {
        let (mut bits, mut characters) = (0.0, 0u64);
        for document in documents {
            let mut gram = 0;
            for c in document.text.chars() {
                // A character that was never seen has a number that no gram has.
                let id = self.alphabet.get(&c).copied().unwrap_or((1 << BITS) - 1);
                gram = push(gram, id, self.orders.len());
                bits -= self.probability(gram).log2();
                characters += 1;
            }
        }
        bits / characters.max(1) as f64
    }

    /// The probability of the gram's last character after the others.
    fn probability(&self, gram: u128) -> f64 {
        // Below single characters all are equally likely, an unknown one too.
        let uniform = 1.0 / (self.alphabet.len() + 1) as f64;
        self.orders.iter().enumerate().fold(uniform, |shorter, (i, order)| {
            let gram = last(gram, i + 1);
            let Some(context) = order.contexts.get(&(gram >> BITS)) else { return shorter };
            let count = f64::from(order.counts.get(&gram).copied().unwrap_or(0));
            let freed = order.discount * f64::from(context.kinds);
            ((count - order.discount).max(0.0) + freed * shorter) / f64::from(context.total)
        })
    }
}

impl Order {
    fn of(counts: HashMap<u128, u32>) -> Self {
        let mut contexts: HashMap<u128, Context> = HashMap::new();
        for (gram, count) in &counts {
            let context = contexts.entry(gram >> BITS).or_default();
            context.total += count;
            context.kinds += 1;
        }
        let with = |n: u32| counts.values().filter(|&&count| count == n).count() as f64;
        let (once, twice) = (with(1), with(2));
        // The estimate of Ney, Essen and Kneser 1994.
        let discount = if once > 0.0 { once / (once + 2.0 * twice) } else { 0.5 };
        Order { counts, contexts, discount: discount.min(0.95) }
    }
}

/// The gram of at most `order` characters that ends with this one.
fn push(gram: u128, id: u128, order: usize) -> u128 {
    last((gram << BITS) | id, order)
}

/// The last `length` characters of a gram.
fn last(gram: u128, length: usize) -> u128 {
    match length {
        LONGEST.. => gram,
        _ => gram & ((1 << (BITS as usize * length)) - 1),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn documents(text: &str) -> Vec<Document> {
        vec![Document::new("a", text)]
    }

    #[test]
    fn probabilities_of_all_characters_add_up_to_one() {
        let model = KneserNey::train(3, &documents("abracadabra, abracadabra; cabbala")).unwrap();
        for context in ["", "a", "ab", "ra", "zz"] {
            let mut gram = 0;
            for c in context.chars() {
                gram = push(gram, model.alphabet.get(&c).copied().unwrap_or(65_535), 3);
            }
            let unknown = 65_535;
            let all = model.alphabet.values().copied().chain([unknown]);
            let sum: f64 = all.map(|id| model.probability(push(gram, id, 3))).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{context:?}: {sum}");
        }
    }

    #[test]
    fn single_characters_have_their_frequencies_but_for_the_discount() {
        // a twice, b once, c once: n1 = 2, n2 = 1, so the discount is 1/2.
        let model = KneserNey::train(1, &documents("abca")).unwrap();
        let p = |c: char| model.probability(model.alphabet[&c]);
        let freed = 0.5 * 3.0 / 4.0 * 0.25;
        assert!((p('a') - (1.5 / 4.0 + freed)).abs() < 1e-12);
        assert!((p('b') - (0.5 / 4.0 + freed)).abs() < 1e-12);
    }

    #[test]
    fn longer_contexts_help_on_text_with_structure() {
        let train = documents(&"the cat sat on the mat. the dog sat on the log. ".repeat(20));
        let test = documents("the cat sat on the log. the dog sat on the mat.");
        let bits = [1, 2, 4]
            .map(|order| KneserNey::train(order, &train).unwrap().bits_per_character(&test));
        assert!(bits[0] > bits[1] && bits[1] > bits[2] && bits[2] < 1.0, "{bits:?}");
        let unknown = KneserNey::train(4, &train).unwrap().bits_per_character(&documents("ж"));
        assert!(unknown.is_finite() && unknown > 5.0);
    }
}
