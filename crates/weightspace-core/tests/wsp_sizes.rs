//! Small files stay small, large ones are the same bytes on any number of threads.

use weightspace_core::container::{self, Coding, Header, Number, Quantized, SectionKind, WspFile};
use weightspace_core::{DType, WspError};

fn quantized(shape: &[usize], scale: f32, exponents: bool) -> Coding {
    let count = shape.iter().product();
    let hash = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 16;
    Coding::Quantized(Quantized {
        shape: shape.to_vec(),
        scale,
        channel_exponents: exponents.then(|| (0..shape[0]).map(|i| hash(i) as u8 & 15).collect()),
        values: (0..count).map(|i| (hash(i) % 7) as i32 - 3).collect(),
    })
}

/// The tensors of a ResNet-20 whose batch norms are folded into biases.
fn resnet20() -> Vec<(String, Coding)> {
    let mut tensors = Vec::new();
    let mut scale = 0.123f32;
    let mut layer = |conv: &str, norm: &str, shape: [usize; 4]| {
        scale = (scale * 1.618_034).fract() + 0.01;
        let channels = vec![shape[0]];
        let constant = |value| Coding::Constant {
            dtype: DType::F32,
            shape: channels.clone(),
            value: Number::Float(value),
        };
        tensors.push((format!("{conv}.weight"), quantized(&shape, scale, true)));
        tensors.push((format!("{norm}.weight"), constant(1.0)));
        tensors.push((format!("{norm}.bias"), quantized(&channels, scale * 0.7, false)));
        tensors.push((format!("{norm}.running_mean"), constant(0.0)));
        tensors.push((format!("{norm}.running_var"), constant(0.99999)));
    };
    layer("conv1", "bn1", [16, 3, 3, 3]);
    let mut inputs = 16;
    for (stage, width) in [(1, 16), (2, 32), (3, 64)] {
        for block in 0..3 {
            let name = |part: &str| format!("layer{stage}.{block}.{part}");
            layer(&name("conv1"), &name("bn1"), [width, inputs, 3, 3]);
            layer(&name("conv2"), &name("bn2"), [width, width, 3, 3]);
            inputs = width;
        }
    }
    tensors.push(("linear.weight".into(), quantized(&[10, 64], 0.77, true)));
    tensors.push(("linear.bias".into(), quantized(&[10], 0.33, false)));
    tensors
}

#[test]
fn the_table_of_a_resnet20_is_small() {
    let tensors = resnet20();
    assert_eq!(tensors.len(), 97);
    let file = container::encode(&Header::default(), &tensors).unwrap();
    let file = WspFile::from_bytes("resnet20.wsp", file).unwrap();
    let table = &file.sections()[0];
    assert_eq!(table.kind, SectionKind::Table);
    // 40 scales of 4 bytes, of which the exponents compress, and 240 bytes for all the rest.
    eprintln!("table: {} bytes", table.range.len());
    assert!(table.range.len() <= 400, "{} bytes", table.range.len());
    let sections: usize = file.sections().iter().map(|s| s.range.len()).sum();
    assert!(file.byte_count() - sections < 50);
}

#[test]
#[cfg(feature = "threads")]
fn threads_change_nothing() {
    let tensors = [
        ("a".to_string(), quantized(&[100, 70, 3, 3], 0.5, true)),
        ("b".to_string(), quantized(&[1_500, 1_000], 0.25, true)),
        ("c".to_string(), quantized(&[700_000], 0.25, false)),
    ];
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let bytes = container::encode(&Header::default(), &tensors).unwrap();
            let file = WspFile::from_bytes("a.wsp", bytes.clone()).unwrap();
            assert_eq!(file.sections().len(), 1 + 3);
            let mut names = Vec::new();
            file.decode_each(|name, _| -> Result<(), WspError> {
                names.push(name.to_string());
                Ok(())
            })
            .unwrap();
            assert_eq!(names, ["a", "b", "c"]);
            (bytes, file.state_dict().unwrap().content_hash())
        })
    };
    let alone = with(1);
    assert_eq!(alone, with(2));
    assert_eq!(alone, with(5));
    let (_, Coding::Quantized(b)) = &tensors[1] else { unreachable!() };
    let dict = WspFile::from_bytes("a.wsp", alone.0).unwrap().state_dict().unwrap();
    assert_eq!(&*dict.get("b").unwrap().to_f32(), b.dequantize());
}
