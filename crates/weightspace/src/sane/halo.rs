//! Sequences of any length through windows of one length (SANE, section 3.4).

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// How a long sequence is cut: every snippet has so many tokens that count, and so many on both sides that it only
/// sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halo {
    /// Tokens that count, at least 1.
    pub content: usize,
    /// Tokens on each side that are seen besides.
    pub context: usize,
}

/// A part of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// Tokens that are seen.
    pub tokens: Range<usize>,
    /// Those of them that count.
    pub content: Range<usize>,
}

impl Halo {
    /// Snippets as long as a training window, of which the middle half counts.
    pub fn of_window(window: usize) -> Self {
        let context = window / 4;
        Halo { content: (window - 2 * context).max(1), context }
    }

    /// Tokens of a snippet of a sequence of so many.
    pub fn len(self, count: usize) -> usize {
        (self.content + 2 * self.context).min(count)
    }

    /// The snippets of a sequence: all of the same length, the first and the last moved inward, so that their contents
    /// end to end are the sequence.
    ///
    /// # Panics
    /// If no token counts.
    pub fn snippets(self, count: usize) -> impl ExactSizeIterator<Item = Snippet> {
        assert!(self.content > 0, "snippets without content");
        let len = self.len(count);
        let content = if len == count { count.max(1) } else { self.content };
        (0..count.div_ceil(content)).map(move |index| {
            let start = index * content;
            let first = start.saturating_sub(self.context).min(count - len);
            let content = start..(start + content).min(count);
            Snippet { tokens: first..first + len, content }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Also where the rest of a sequence is shorter than the context.
        #[test]
        fn contents_end_to_end_are_the_sequence(
            count in 0usize..300, content in 1usize..40, context in 0usize..40,
        ) {
            let halo = Halo { content, context };
            let mut end = 0;
            for snippet in halo.snippets(count) {
                prop_assert_eq!(snippet.content.start, end);
                prop_assert_eq!(snippet.tokens.len(), halo.len(count));
                prop_assert!(snippet.tokens.end <= count);
                prop_assert!(snippet.tokens.start <= snippet.content.start);
                prop_assert!(snippet.content.end <= snippet.tokens.end);
                let inner = snippet.content.start >= context && snippet.content.end + context <= count;
                if inner && snippet.content.len() == content {
                    prop_assert_eq!(snippet.content.start - snippet.tokens.start, context);
                }
                end = snippet.content.end;
            }
            prop_assert_eq!(end, count);
        }
    }

    #[test]
    fn a_short_sequence_is_one_snippet() {
        let all: Vec<_> = Halo { content: 16, context: 8 }.snippets(20).collect();
        assert_eq!(all, [Snippet { tokens: 0..20, content: 0..20 }]);
    }
}
