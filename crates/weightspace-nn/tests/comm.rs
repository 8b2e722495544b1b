//! What ranks say to each other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use weightspace_nn::comm::{
    Communicator, Elsewhere, Part, Solo, ThreadRank, agree, agree_on, threads,
};

/// What `f` returns on each of `count` ranks.
fn on_ranks<T: Send>(count: usize, f: impl Fn(ThreadRank) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let f = &f;
        let ranks: Vec<_> =
            threads(count).into_iter().map(|rank| scope.spawn(move || f(rank))).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// Values whose sum depends on the order.
fn values(rank: usize, len: usize) -> Vec<f32> {
    let value = |i: usize| ((i * 7 + rank * 13) % 101) as f32 * 10f32.powi((i + rank) as i32 % 5);
    (0..len).map(|i| value(i) / 3.0).collect()
}

fn check_sum(ranks: usize, len: usize) {
    let mut expected = values(0, len);
    for rank in 1..ranks {
        expected.iter_mut().zip(values(rank, len)).for_each(|(sum, value)| *sum += value);
    }
    let found = on_ranks(ranks, |rank| {
        let mut single = values(rank.rank(), len);
        let mut double: Vec<_> = single.iter().map(|&value| f64::from(value)).collect();
        rank.sum_f32(&mut single);
        rank.sum_f64(&mut double);
        (single, double)
    });
    for (single, double) in &found {
        assert_eq!(single, &expected, "{ranks} ranks, {len} values");
        assert_eq!(double, &found[0].1);
        let close = |(a, b): (&f64, &f32)| (a - f64::from(*b)).abs() <= 1e-6 * a.abs();
        assert!(double.iter().zip(&expected).all(close));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sums_are_added_in_the_order_of_the_ranks(ranks in 1usize..6, len in 0usize..3000) {
        check_sum(ranks, len);
    }

    #[test]
    fn parts_are_the_whole(count in 1usize..20, len in 0usize..1000) {
        let parts: Vec<_> = (0..count).map(|index| Part { index, count }).collect();
        let all: Vec<_> = parts.iter().flat_map(|part| part.range(len)).collect();
        prop_assert_eq!(all, (0..len).collect::<Vec<_>>());
        let lengths = Part { index: 0, count }.lengths(len);
        prop_assert_eq!(lengths.iter().sum::<usize>(), len);
        for (part, length) in parts.iter().zip(lengths) {
            prop_assert_eq!(part.range(len).len(), length);
            prop_assert!(length.abs_diff(len / count) <= 1);
        }
    }
}

#[test]
fn sums_of_many_values_are_the_same() {
    check_sum(3, (1 << 20) + 5);
}

#[test]
fn values_are_gathered_in_the_order_of_the_ranks() {
    let found = on_ranks(4, |rank| {
        let part = rank.part();
        let all: Vec<f32> = (0..10).map(|value| value as f32).collect();
        let mut found = vec![0.0; 10];
        rank.gather_f32(&all[part.range(10)], &part.lengths(10), &mut found);
        assert_eq!(found, all);
        let mut ranks = [0.0; 4];
        rank.gather_f64(&[rank.rank() as f64], &mut ranks);
        ranks
    });
    assert_eq!(found, [[0.0, 1.0, 2.0, 3.0]; 4]);
}

#[test]
fn pieces_are_exchanged() {
    let found = on_ranks(3, |rank| {
        let sent: Vec<u8> = (0..6).map(|i| 10 * rank.rank() as u8 + i).collect();
        let mut received = [0; 6];
        rank.transpose(&sent, &mut received);
        received
    });
    assert_eq!(found, [[0, 1, 10, 11, 20, 21], [2, 3, 12, 13, 22, 23], [4, 5, 14, 15, 24, 25]]);
}

#[test]
fn one_rank_agrees_with_itself() {
    assert_eq!((Solo.rank(), Solo.size(), Solo.part()), (0, 1, Part::WHOLE));
    let mut values = [1.0, 2.0];
    Solo.sum_f32(&mut values);
    assert_eq!(values, [1.0, 2.0]);
    assert!(Solo.any(true) && !Solo.any(false));
    assert_eq!(agree::<_, Elsewhere>(&Solo, Ok(3)), Ok(3));
}

#[test]
fn all_fail_where_one_does() {
    #[derive(Debug, PartialEq, thiserror::Error)]
    enum Error {
        #[error("disk {0} is full")]
        Own(usize),
        #[error(transparent)]
        Elsewhere(#[from] Elsewhere),
    }
    let found = on_ranks(3, |rank| {
        let outcome = |fails: bool| match fails {
            true => Err(Error::Own(rank.rank())),
            false => Ok(rank.rank()),
        };
        assert_eq!(agree(&rank, outcome(false)), Ok(rank.rank()));
        agree(&rank, outcome(rank.rank() > 0))
    });
    let elsewhere = Elsewhere { rank: 1, message: "disk 1 is full".to_owned() };
    let own = |rank| Err(Error::Own(rank));
    assert_eq!(found, [Err(Error::Elsewhere(elsewhere)), own(1), own(2)]);

    let found = on_ranks(3, |rank| {
        let bytes = [u8::from(rank.rank() == 2)];
        (agree_on(&rank, "seeds", &[&[7]]), agree_on(&rank, "settings", &[&[7], &bytes]))
    });
    for (same, other) in found {
        assert_eq!(same, Ok(()));
        assert_eq!(other.unwrap_err().to_string(), "rank 2: settings differ from rank 0's");
    }
}

#[test]
fn nobody_waits_for_a_rank_that_left() {
    let found = on_ranks(3, |rank| {
        if rank.rank() == 1 {
            std::thread::sleep(Duration::from_millis(20));
            return true;
        }
        let rank: Arc<dyn Communicator> = Arc::new(rank);
        catch_unwind(AssertUnwindSafe(|| rank.any(false))).is_err()
    });
    assert_eq!(found, [true; 3]);
}
