//! The ORDER sections: the permutations of all predicted tensors as exchanges, end to end.

use super::error::{Reason, refuse};
use super::limits;
use crate::entropy::exchanges;
use crate::parallel;
use crate::predictor::{Order, OrderKind, Tiling};

/// Numbers and lengths of the permutations of some tensors, in the order in which they are stored.
pub(crate) struct Permutations(Vec<(usize, usize)>);

impl Permutations {
    pub(crate) fn new(tensors: impl Iterator<Item = (Tiling, OrderKind)>) -> Self {
        let all = tensors.flat_map(|(tiling, order)| order.permutations(&tiling));
        Permutations(all.filter(|&(count, length)| count > 0 && length > 1).collect())
    }

    /// Exchanges of all permutations.
    fn total(&self) -> u64 {
        let of = |&(count, length): &(usize, usize)| count as u64 * (length as u64 - 1);
        self.0.iter().map(of).fold(0, u64::saturating_add)
    }

    /// Exchanges that each section covers.
    fn covered(&self) -> impl Iterator<Item = usize> {
        let total = self.total();
        let begins = (0..total).step_by(limits::SECTION_EXCHANGES);
        begins.map(move |begin| (total - begin).min(limits::SECTION_EXCHANGES as u64) as usize)
    }

    /// The bound of each exchange.
    fn bounds(&self) -> impl Iterator<Item = u32> {
        let permutations =
            self.0.iter().flat_map(|&(count, length)| std::iter::repeat_n(length, count));
        permutations.flat_map(|length| (2..=length as u32).rev())
    }

    /// Refuses sections of these lengths if they are not as many as needed, or too short.
    pub(super) fn check(&self, sections: &[usize]) -> Result<(), Reason> {
        let expected = self.total().div_ceil(limits::SECTION_EXCHANGES as u64);
        if sections.len() as u64 != expected {
            return refuse!("{} sections of orders, expected {expected}", sections.len());
        }
        for (&length, covered) in sections.iter().zip(self.covered()) {
            if covered > limits::exchanges_of(length) {
                return refuse!("a section of {length} bytes cannot cover {covered} exchanges");
            }
        }
        Ok(())
    }

    /// The contents of the sections.
    pub(super) fn encode<'a>(
        &self,
        orders: impl Iterator<Item = (Tiling, &'a Order)>,
    ) -> Vec<Vec<u8>> {
        let mut numbers = Vec::new();
        for (tiling, order) in orders {
            let lengths = order.kind().permutations(&tiling).map(|(_, length)| length.max(1));
            for (all, length) in order.permutations().into_iter().zip(lengths) {
                numbers.extend(all.chunks(length).flat_map(exchanges::of_permutation));
            }
        }
        let bounds: Vec<u32> = self.bounds().collect();
        let of_section = |section: usize| {
            let begin = section * limits::SECTION_EXCHANGES;
            begin..numbers.len().min(begin + limits::SECTION_EXCHANGES)
        };
        parallel::map(numbers.len().div_ceil(limits::SECTION_EXCHANGES), |section| {
            let range = of_section(section);
            let count = range.len();
            let mut content = exchanges::encode(&bounds[range.clone()], &numbers[range]);
            // Zero bytes behind the end change nothing for the decoder, which supplies them anyway.
            while limits::exchanges_of(content.len()) < count {
                content.push(0);
            }
            content
        })
    }

    /// The exchanges of all sections, which passed [`check`](Self::check).
    pub(crate) fn decode<'a>(
        &self,
        content: impl Fn(usize) -> &'a [u8] + Sync + Send,
    ) -> Result<Vec<u32>, Reason> {
        let bounds: Vec<u32> = self.bounds().collect();
        let sections: Vec<&[u32]> = bounds.chunks(limits::SECTION_EXCHANGES).collect();
        let decoded = parallel::map(sections.len(), |i| exchanges::decode(sections[i], content(i)));
        let mut all = Vec::with_capacity(bounds.len());
        for exchanges in decoded {
            match exchanges {
                Some(exchanges) => all.extend(exchanges),
                None => return refuse!("a section of orders does not decode"),
            }
        }
        Ok(all)
    }
}

/// The orders of tensors, from the exchanges of all their permutations.
pub(crate) fn orders(
    tensors: impl Iterator<Item = (Tiling, OrderKind)>,
    exchanges: &[u32],
) -> Vec<(Tiling, Order)> {
    let mut rest = exchanges;
    let mut take = |(count, length): (usize, usize)| {
        let mut numbers = Vec::with_capacity(count * length);
        for _ in 0..count {
            let (own, behind) = rest.split_at(length.saturating_sub(1));
            rest = behind;
            numbers.extend(exchanges::to_permutation(own));
        }
        numbers
    };
    let order = |(tiling, kind): (Tiling, OrderKind)| {
        let [first, second] = kind.permutations(&tiling);
        let order = Order::from_permutations(kind, take(first), take(second));
        (tiling, order)
    };
    tensors.map(order).collect()
}
