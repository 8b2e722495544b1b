//! Filters, the split, shards.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use weightspace::zoo::tree::ModelWriter;
use weightspace::zoo::{EpochMetrics, Import, Population, Shard};

use crate::fixtures::{expected, silent, small_zoo};

#[test]
fn models_that_are_not_finite_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let zoo = small_zoo(&folder.path().join("zoo"), 12, &[0, 7]);
    let (finite, others) = zoo.without_nan().unwrap();
    assert_eq!(others, ["model_0000", "model_0007"]);
    assert_eq!(finite.len(), 10);
    assert_eq!(finite.name(0), "model_0001");
    assert_eq!(finite.row(5, 5).unwrap(), [6.0, 2.0, 1.0]);
    assert_eq!(finite.row(6, 5).unwrap(), [8.0, 2.0, 1.0]);
    assert_eq!(finite.subset([6, 0]).row(0, 0).unwrap(), [8.0, 0.0, 1.0]);
}

#[test]
fn the_split_is_the_same_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let zoo = small_zoo(&folder.path().join("zoo"), 20, &[]);
    let parts = zoo.split(42);
    let numbers = |zoo: &Population| -> Vec<usize> {
        zoo.names().map(|name| name[6..].parse().unwrap()).collect()
    };
    let all = [&parts.train, &parts.validation, &parts.test].map(numbers);
    assert_eq!(all.each_ref().map(Vec::len), [14, 3, 3]);
    let order = weightspace_nn::data::split_train_validation(20, 0, 42).0;
    for (part, range) in all.iter().zip([0..14, 14..17, 17..20]) {
        let mut expected = order[range].to_vec();
        expected.sort_unstable();
        assert_eq!(part, &expected);
    }
    assert_ne!(numbers(&zoo.split(43).train), all[0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_model_is_in_one_part(count in 1usize..60, seed: u64) {
        let folder = tempfile::tempdir().unwrap();
        let zoo = small_zoo(&folder.path().join("zoo"), count, &[]);
        let parts = zoo.split(seed);
        let all = [parts.train, parts.validation, parts.test];
        prop_assert_eq!(all[0].len(), count * 70 / 100);
        prop_assert_eq!(all[1].len(), count * 15 / 100);
        let mut names: Vec<String> = Vec::new();
        for part in &all {
            prop_assert!(part.names().is_sorted());
            names.extend(part.names().map(str::to_owned));
        }
        names.sort_unstable();
        prop_assert!(names.iter().map(String::as_str).eq(zoo.names()));
    }

    #[test]
    fn shards_partition_the_models(models in 0usize..200, count in 1usize..20) {
        let mut seen = BTreeSet::new();
        for index in 0..count {
            let shard = Shard::new(index, count).unwrap();
            for position in shard.positions(models) {
                prop_assert!(shard.has(position) && seen.insert(position));
            }
        }
        prop_assert!(seen.into_iter().eq(0..models));
    }

    #[test]
    fn metrics_survive_both_layouts(values in prop::array::uniform6(any::<f32>())) {
        let folder = tempfile::tempdir().unwrap();
        let metrics = EpochMetrics::from_values(3, values);
        let writer = ModelWriter::create(folder.path(), "m", &Default::default()).unwrap();
        writer.write_checkpoint(3, &expected(0, 0)).unwrap();
        writer.write_metrics(&[metrics]).unwrap();
        let zoo = Population::open(folder.path()).unwrap();
        prop_assert_eq!(zoo.model(0).unwrap().metrics, [metrics]);
        let file = folder.path().join("zoo");
        Import::default().write(&zoo, &file, &silent).unwrap();
        prop_assert_eq!(Population::open(&file).unwrap().model(0).unwrap().metrics, [metrics]);
    }
}

#[test]
fn shards_come_from_texts_and_schedulers() {
    assert_eq!("3/4".parse::<Shard>().unwrap(), Shard { index: 3, count: 4 });
    for (text, part) in
        [("4/4", "0/4 to 3/4"), ("1", "0/4"), ("a/b", "no shard"), ("0/0", "shard 0/0")]
    {
        let error = text.parse::<Shard>().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let from = |variables: &[(&str, &str)], count| {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        Shard::from_environment(|name| variables.get(name).map(ToString::to_string), count)
    };
    let shard = |index, count| Some(Shard { index, count });
    assert_eq!(from(&[], None).unwrap(), None);
    assert_eq!(from(&[], Some(4)).unwrap(), None);
    let slurm = [
        ("SLURM_ARRAY_TASK_ID", "7"),
        ("SLURM_ARRAY_TASK_COUNT", "10"),
        ("SLURM_ARRAY_TASK_MIN", "1"),
    ];
    assert_eq!(from(&slurm, None).unwrap(), shard(6, 10));
    assert_eq!(from(&slurm[..2], None).unwrap(), shard(7, 10));
    assert_eq!(from(&[("JOB_COMPLETION_INDEX", "2")], Some(3)).unwrap(), shard(2, 3));
    let error = from(&[("JOB_COMPLETION_INDEX", "2")], None).unwrap_err().to_string();
    assert!(error.contains("JOB_COMPLETIONS"), "{error}");
    assert!(from(&[("SLURM_ARRAY_TASK_ID", "x")], Some(3)).is_err());
    assert!(from(&[("SLURM_ARRAY_TASK_ID", "3")], Some(3)).is_err());
}
