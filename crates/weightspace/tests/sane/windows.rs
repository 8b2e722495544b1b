//! Windows that are read where the weights are.

use weightspace::sane::{
    Arrangement, Arranger, Standardisation, TokenConfig, TokenLayout, Windows,
};
use weightspace::zoo::ModelWeights;
use weightspace_core::random::{Key, Stream};
use weightspace_nn::net::permutation;

use crate::network;

/// A window of an arranged network is the window of the network whose units have been permuted.
#[test]
fn windows_are_those_of_permuted_networks() {
    for name in ["zoo-cnn", "lenet-mnist", "mlp:20-30-10", "resnet20", "resnet20-b"] {
        let (net, tensors) = network(name);
        let config = TokenConfig { size: 23, normalisations: true };
        let layout = TokenLayout::new(&tensors.infos(), config).unwrap();
        let groups = net.permutation_groups();
        let draw = |group: usize| {
            let mut order: Vec<usize> = (0..groups[group].size).collect();
            Stream::new(Key::from_seed(7), group as u64).shuffle(&mut order);
            order
        };
        let permutations: Vec<_> = (0..groups.len()).map(draw).collect();
        let mut moved = tensors.clone();
        permutation::apply(&groups, &permutations, &mut moved).unwrap();
        let expected = layout.tokenise(&moved).unwrap();

        let standard = Standardisation::none(layout.layers().len());
        let mut windows = Windows::new(&layout, &standard);
        let arranger = Arranger::new(&layout, groups.clone());
        let weights = ModelWeights::of_tensors(&tensors);
        let mut stream = Stream::new(Key::from_seed(8), 0);
        for len in [1, 2, 5, 40] {
            let start = stream.below((layout.token_count() - len) as u32) as usize;
            let tokens = start..start + len;
            let layers = layout.layers_of(&tokens);
            let arranged =
                arranger.arrange(&layout, layers, |group| permutations[group].as_slice());
            let mut found = vec![f32::NAN; len * 23];
            windows.read(&weights, &arranged, tokens.clone(), &mut found).unwrap();
            assert_eq!(found, expected[start * 23..tokens.end * 23], "{name} {tokens:?}");
        }
    }
}

#[test]
fn drawn_permutations_belong_to_a_network_and_not_to_its_windows() {
    let (net, tensors) = network("resnet20");
    let config = TokenConfig { size: 48, normalisations: false };
    let layout = TokenLayout::new(&tensors.infos(), config).unwrap();
    let standard = Standardisation::none(layout.layers().len());
    let arranger = Arranger::new(&layout, net.permutation_groups());
    let mut windows = Windows::new(&layout, &standard);
    let weights = ModelWeights::of_tensors(&tensors);
    let count = layout.token_count();
    let mut read = |tokens: std::ops::Range<usize>, arranged: &Arrangement| {
        let mut found = vec![f32::NAN; tokens.len() * 48];
        windows.read(&weights, arranged, tokens, &mut found).unwrap();
        found
    };
    let key = Key::from_seed(1);
    let all = arranger.shuffled(&layout, 0..layout.layers().len(), key, None);
    let whole = read(0..count, &all);
    for tokens in [0..10, 100..230, count - 3..count] {
        let part = arranger.shuffled(&layout, layout.layers_of(&tokens), key, None);
        let range = tokens.start * 48..tokens.end * 48;
        assert_eq!(read(tokens, &part), whole[range]);
    }
    assert_ne!(read(0..count, &Arrangement::identity()), whole);
}

#[test]
fn an_aligned_network_is_permuted_from_where_it_is_aligned() {
    let (net, tensors) = network("zoo-cnn");
    let config = TokenConfig { size: 201, normalisations: false };
    let layout = TokenLayout::new(&tensors.infos(), config).unwrap();
    let groups = net.permutation_groups();
    let aligned: Vec<Vec<usize>> =
        groups.iter().map(|group| (0..group.size).rev().collect()).collect();
    let mut moved = tensors.clone();
    permutation::apply(&groups, &aligned, &mut moved).unwrap();
    let arranger = Arranger::new(&layout, groups);
    let standard = Standardisation::none(layout.layers().len());
    let mut windows = Windows::new(&layout, &standard);
    let (key, layers) = (Key::from_seed(2), 0..layout.layers().len());
    let mut read = |tensors, arranged| {
        let mut found = vec![0.0; layout.token_count() * 201];
        let weights = ModelWeights::of_tensors(tensors);
        windows.read(&weights, &arranged, 0..layout.token_count(), &mut found).unwrap();
        found
    };
    let both = arranger.shuffled(&layout, layers.clone(), key, Some(&aligned));
    let second = arranger.shuffled(&layout, layers, key, None);
    assert_eq!(read(&tensors, both), read(&moved, second));
}
