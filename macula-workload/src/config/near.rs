//! Which of the legal words somebody may have meant.

use std::cmp::Ordering;

/// The longest word that is compared, in characters. Nobody mistypes one that is longer.
const WORD_LEN_MAX: usize = 256;

/// The candidate that is nearest to a word, if one is near enough to be a slip of the hand: a third
/// of its letters may differ, or of those of a path's last name, and at least one.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(WORD_LEN_MAX + 1).collect();
    if word.len() > WORD_LEN_MAX {
        return None;
    }
    let near = candidates.into_iter().filter_map(|candidate| {
        let letters: Vec<char> = candidate.chars().collect();
        // What stands above in a path is mostly right, and would hide that the name is another.
        let name = letters.rsplit(|letter| *letter == '/').next().unwrap_or_default();
        let most = (name.len() / 3).max(1);
        let distance = distance(&word, &letters);
        (distance <= most).then_some((distance, candidate))
    });
    near.min_by(|a, b| a.0.cmp(&b.0).then(Ordering::Less)).map(|(_, candidate)| candidate)
}

/// How many letters must be put in, taken out, replaced or swapped with their neighbour: the
/// restricted distance of Damerau and Levenshtein.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut last_a = None;
    for (row, &letter_a) in a.iter().enumerate() {
        let mut current = vec![row + 1];
        let mut last_b = None;
        for (column, &letter_b) in b.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX);
            let replaced = at(&above, column) + usize::from(letter_a != letter_b);
            let put_in = at(&current, column) + 1;
            let taken_out = at(&above, column + 1) + 1;
            let mut least = replaced.min(put_in).min(taken_out);
            if column > 0 && last_a == Some(letter_b) && last_b == Some(letter_a) {
                least = least.min(at(&before, column - 1).saturating_add(1));
            }
            current.push(least);
            last_b = Some(letter_b);
        }
        before = std::mem::replace(&mut above, current);
        last_a = Some(letter_a);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    fn apart(a: &str, b: &str) -> usize {
        distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>())
    }

    #[test]
    fn the_distance_counts_slips_of_the_hand() {
        assert_eq!(apart("intensity", "intensity"), 0);
        assert_eq!(apart("intensty", "intensity"), 1);
        assert_eq!(apart("intesnity", "intensity"), 1);
        assert_eq!(apart("", "abc"), 3);
        assert_eq!(apart("abc", ""), 3);
        assert_eq!(apart("kitten", "sitting"), 3);
    }

    #[test]
    fn only_what_is_near_is_offered_and_the_first_of_equals() {
        assert_eq!(nearest("nmae", ["shutdown", "name"]), Some("name"));
        assert_eq!(nearest("colour", ["shutdown", "name"]), None);
        assert_eq!(nearest("workload/nobody", ["workload/rooms"]), None);
        assert_eq!(nearest("wrkload/rooms", ["workload/rooms"]), Some("workload/rooms"));
        assert_eq!(nearest("ac", ["ab", "ad"]), Some("ab"));
        assert_eq!(nearest(&"n".repeat(1 << 20), ["name"]), None);
    }
}
