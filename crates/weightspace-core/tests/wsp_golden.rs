//! Golden files pin the format: they are decoded to what they held on the day they were written,
//! and encoding gives the same bytes again. `WEIGHTSPACE_REGENERATE=1 cargo test --test wsp_golden`
//! writes them anew (after a change of the version) and says what to pin.

use std::path::PathBuf;

use sha2::{Digest, Sha256};
use weightspace_core::container::{self, Coding, Header, Method, Number, Quantized, WspFile};
use weightspace_core::{DType, Tensor};

/// Name, SHA-256 of the file, content hash of what it decodes to (first 16 hexadecimal digits).
const PINNED: [(&str, &str, &str); 4] = [
    (
        "empty",
        "7769f72f740214b765cb90b7110c34f7803e444c3a833e8ca873022bc9fd5edb",
        "e3b0c44298fc1c14",
    ),
    (
        "network",
        "28497f674a9fd42ce2e4478c27a3cef51d18b1d52e5cb16fb78b071482f222b8",
        "9bf068213d2651b2",
    ),
    (
        "dtypes",
        "23468c2df918a975fbc5f87e6af71762544e57f75a32166ea15f7f5a7cd27c22",
        "45aa52a3ac13403d",
    ),
    (
        "sections",
        "6438ea5057ac87bff72e828f2b3d6bc0ace483113d99982db1cf96ebd51cded4",
        "ed4ffac78fe60199",
    ),
];

/// Uniform numbers, the same on every machine.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % below
    }

    /// Peaked at zero, of magnitude below `largest`.
    fn value(&mut self, largest: u64) -> i32 {
        let magnitude = self.next(largest).min(self.next(largest)).min(self.next(largest)) as i32;
        if self.next(2) == 0 { magnitude } else { -magnitude }
    }
}

fn header() -> Header {
    Header {
        method: Method::Quantize,
        arch: "resnet20".into(),
        data: "cifar10".into(),
        preprocessing: "mean=0.5 std=0.25".into(),
        source_hash: std::array::from_fn(|i| i as u8),
        source_bytes: 1_100_000,
        source_parameters: 269_722,
    }
}

fn quantized(numbers: &mut Numbers, shape: &[usize], largest: u64, exponents: bool) -> Coding {
    let count = shape.iter().product();
    Coding::Quantized(Quantized {
        shape: shape.to_vec(),
        scale: 0.037,
        channel_exponents: exponents
            .then(|| (0..shape[0]).map(|_| 20 + numbers.next(12) as u8).collect()),
        values: (0..count).map(|_| numbers.value(largest)).collect(),
    })
}

fn constant(shape: &[usize], value: f64) -> Coding {
    let value = Number::Float(value);
    Coding::Constant { dtype: DType::F32, shape: shape.to_vec(), value }
}

fn contents(name: &str) -> (Header, Vec<(String, Coding)>) {
    let numbers = &mut Numbers(7);
    let mut tensors: Vec<(String, Coding)> = Vec::new();
    let mut add = |name: &str, coding| tensors.push((name.to_string(), coding));
    match name {
        "empty" => return (Header::default(), Vec::new()),
        "network" => {
            add("conv1.weight", quantized(numbers, &[8, 3, 3, 3], 4, true));
            add("bn1.weight", constant(&[8], 1.0));
            add("bn1.bias", quantized(numbers, &[8], 100, false));
            add("bn1.running_mean", constant(&[8], 0.0));
            add("bn1.running_var", constant(&[8], 0.99999));
            let batches = Coding::Constant { dtype: DType::I64, shape: vec![], value: 9.into() };
            add("bn1.num_batches_tracked", batches);
            add("conv2.weight", quantized(numbers, &[8, 8, 5, 5], 20, false));
            add("linear.weight", quantized(numbers, &[10, 8], 300, true));
            add("linear.bias", quantized(numbers, &[10], 1 << 24, false));
            add("empty", quantized(numbers, &[3, 0], 1, true));
            add("scale", quantized(numbers, &[], 5, false));
        }
        "dtypes" => {
            for dtype in DType::ALL {
                let bytes = (0..6 * dtype.size()).map(|_| numbers.next(2) as u8).collect();
                add(dtype.name(), Coding::Raw(Tensor::from_bytes(dtype, vec![2, 3], bytes)));
            }
        }
        "sections" => {
            let mut values = vec![0; (1 << 20) + 300];
            (0..values.len()).step_by(10_007).for_each(|i| values[i] = numbers.value(9));
            let shape = vec![values.len() / 4, 4];
            let q = Quantized { shape, scale: 1.0, channel_exponents: None, values };
            add("weight", Coding::Quantized(q));
        }
        other => panic!("no golden file is named {other}"),
    }
    (header(), tensors)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn golden_files_stay_what_they_are() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/wsp");
    let regenerate = std::env::var_os("WEIGHTSPACE_REGENERATE").is_some();
    for (name, file_hash, content_hash) in PINNED {
        let path = folder.join(name).with_extension("wsp");
        let (header, tensors) = contents(name);
        let encoded = container::encode(&header, &tensors).unwrap();
        if regenerate {
            std::fs::write(&path, &encoded).unwrap();
        }
        let bytes = std::fs::read(&path).unwrap();
        let file = WspFile::open(&path).unwrap();
        let content = hex(&file.state_dict().unwrap().content_hash()[..8]);
        let found = (hex(&Sha256::digest(&bytes)), content);
        if regenerate {
            eprintln!("(\"{name}\", \"{}\", \"{}\"),", found.0, found.1);
            continue;
        }
        assert_eq!((&*found.0, &*found.1), (file_hash, content_hash), "{name}");
        assert_eq!(file.header(), &header, "{name}");
        assert_eq!(encoded, bytes, "{name} is encoded differently");
    }
}
