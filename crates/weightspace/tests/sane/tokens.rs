//! Tensors as tokens, and back.

use proptest::prelude::*;
use weightspace::sane::{Standardisation, TokenConfig, TokenLayout};
use weightspace::zoo::ModelWeights;
use weightspace_core::{StateDict, Tensor, TensorInfo};
use weightspace_nn::arch;

use crate::network;

fn layout(tensors: &StateDict, size: usize, normalisations: bool) -> TokenLayout {
    TokenLayout::new(&tensors.infos(), TokenConfig { size, normalisations }).unwrap()
}

/// Tokens, layers and elements of an architecture.
fn counts(arch: &str, classes: usize, size: usize, normalisations: bool) -> (usize, usize, usize) {
    let options = arch::ArchOptions { classes: Some(classes), ..Default::default() };
    let net = arch::build(arch, &options).unwrap();
    let infos = net.parameters().into_iter().map(|p| TensorInfo {
        dtype: p.dtype(),
        name: p.name,
        shape: p.shape,
    });
    let infos: Vec<_> = infos.collect();
    let layout = TokenLayout::new(&infos, TokenConfig { size, normalisations }).unwrap();
    (layout.token_count(), layout.layers().len(), layout.element_count())
}

#[test]
fn token_counts_are_the_published_ones() {
    assert_eq!(counts("zoo-cnn", 10, 201, false), (48, 5, 2464));
    assert_eq!(counts("zoo-cnn-medium", 10, 289, false), (93, 5, 10_853));
    let count = |arch, classes, normalisations| {
        let (tokens, layers, _) = counts(arch, classes, 288, normalisations);
        (tokens, layers)
    };
    assert_eq!(count("resnet18-cifar", 10, true), (53_524, 81));
    assert_eq!(count("resnet18-cifar", 10, false), (39_124, 21));
    assert_eq!(count("resnet18-cifar", 100, true), (53_704, 81));
    assert_eq!(count("resnet18-cifar", 200, true), (53_904, 81));
    assert_eq!(count("resnet34-cifar", 100, true), (99_912, 145));
    assert_eq!(count("resnet50-cifar", 100, true), (169_056, 213));
    assert_eq!(count("resnet101-cifar", 100, true), (317_024, 417));
}

#[test]
fn every_architecture_comes_back_from_its_tokens() {
    let names = ["zoo-cnn", "lenet-mnist", "mlp:20-30-10", "resnet20", "resnet20-b", "convnet3"];
    for name in names {
        let (_, tensors) = network(name);
        for normalisations in [false, true] {
            let layout = layout(&tensors, 37, normalisations);
            let tokens = layout.tokenise(&tensors).unwrap();
            assert_eq!(layout.detokenise(&tokens, &tensors).unwrap(), tensors, "{name}");
            // What is in no token comes from the reference, everything else from the tokens.
            let blank = tensors.iter().map(|(name, tensor)| {
                let zeros = vec![0u8; tensor.bytes().len()];
                (
                    name.to_owned(),
                    Tensor::from_bytes(tensor.dtype(), tensor.shape().to_vec(), zeros),
                )
            });
            let blank: StateDict = blank.collect();
            let found = layout.detokenise(&tokens, &blank).unwrap();
            let normalised = ["resnet", "convnet"].iter().any(|start| name.starts_with(start));
            let complete = normalisations || !normalised;
            let same = tensors.iter().filter(|(name, tensor)| found.get(name) == Some(*tensor));
            let counters = tensors.iter().filter(|(_, tensor)| !tensor.dtype().is_float()).count();
            assert_eq!(same.count() + counters >= tensors.len(), complete, "{name}");
        }
    }
}

#[test]
fn tensors_of_any_name_and_type_are_tokens() {
    let half = Tensor::from_f32(vec![3, 4], &[0.5; 12]).cast_float(weightspace_core::DType::F16);
    let tensors: StateDict = [
        ("class_token".to_owned(), Tensor::from_f32(vec![1, 1, 5], &[1.0, 2.0, 3.0, 4.0, 5.0])),
        ("weight".to_owned(), half),
        ("bias".to_owned(), Tensor::from_f32(vec![3], &[6.0, 7.0, 8.0])),
        ("gain".to_owned(), Tensor::from_f32(vec![], &[9.0])),
        ("empty".to_owned(), Tensor::from_f32(vec![0, 4], &[])),
        ("alone.bias".to_owned(), Tensor::from_f32(vec![2], &[10.0, 11.0])),
    ]
    .into_iter()
    .collect();
    let layout = layout(&tensors, 3, false);
    let widths: Vec<_> = layout.layers().iter().map(|layer| (layer.rows, layer.width())).collect();
    assert_eq!(widths, [(1, 5), (3, 5), (1, 1), (2, 1)]);
    let tokens = layout.tokenise(&tensors).unwrap();
    assert_eq!(tokens[..6], [1.0, 2.0, 3.0, 4.0, 5.0, 0.0]);
    assert_eq!(tokens[6..12], [0.5, 0.5, 0.5, 0.5, 6.0, 0.0]);
    assert_eq!(layout.detokenise(&tokens, &tensors).unwrap(), tensors);
}

#[test]
fn chunks_of_a_row_have_positions_of_their_own() {
    let (_, tensors) = network("zoo-cnn");
    let layout = layout(&tensors, 10, false);
    let mut seen = std::collections::BTreeSet::new();
    for token in 0..layout.token_count() {
        let position = layout.position(token);
        assert!(seen.insert((position.layer, position.place)));
    }
}

#[test]
fn the_mask_is_where_elements_are() {
    let (_, tensors) = network("zoo-cnn");
    let layout = layout(&tensors, 201, false);
    let mut mask = vec![f32::NAN; layout.token_count() * 201];
    layout.mask(0..layout.token_count(), &mut mask);
    assert_eq!(mask.iter().sum::<f32>(), 2464.0);
    let tokens = layout.tokenise(&tensors).unwrap();
    assert!(tokens.iter().zip(&mask).all(|(&value, &mask)| mask == 1.0 || value == 0.0));
}

#[test]
fn a_tensor_of_another_shape_is_named() {
    let (_, mut tensors) = network("zoo-cnn");
    let layout = layout(&tensors, 201, false);
    let name = layout.layers()[1].name.clone();
    tensors.insert(name.clone(), Tensor::from_f32(vec![2, 2], &[0.0; 4]));
    let error = layout.tokenise(&tensors).unwrap_err().to_string();
    assert_eq!(error, format!("tensor {name:?} has shape [2, 2], expected [6, 8, 5, 5]"));
}

proptest! {
    #[test]
    fn standardising_is_undone(seed in 0u64..1000, size in 1usize..60) {
        let (_, tensors) = network("zoo-cnn");
        let layout = layout(&tensors, size, false);
        let weights = ModelWeights::of_tensors(&tensors);
        let standard = Standardisation::of(&layout, [Ok(weights)].into_iter()).unwrap();
        let tokens = layout.tokenise(&tensors).unwrap();
        let mut changed = tokens.clone();
        standard.apply_all(&layout, &mut changed);
        let own = &layout.layers()[seed as usize % layout.layers().len()];
        let own = own.tokens().start * size..own.tokens().end * size;
        let count = changed[own.clone()].iter().filter(|&&v| v != 0.0).count() as f64;
        let square: f64 = changed[own].iter().map(|&v| f64::from(v).powi(2)).sum();
        prop_assert!((square / count - 1.0).abs() < 1e-4);
        standard.undo_all(&layout, &mut changed);
        for (a, b) in tokens.iter().zip(&changed) {
            prop_assert!((a - b).abs() < 1e-6 * a.abs().max(1.0));
        }
    }
}
