//! Dependencies point down only: core <- nn <- weightspace.

use std::process::Command;

use serde_json::Value;

/// The crates of the workspace, each with those that it may depend on.
const LAYERS: [(&str, &[&str]); 3] = [
    ("weightspace-core", &[]),
    ("weightspace-nn", &["weightspace-core"]),
    ("weightspace", &["weightspace-core", "weightspace-nn"]),
];

#[test]
fn dependencies_point_down_only() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--format-version=1", "--no-deps", "--offline"];
    let manifest = concat!("--manifest-path=", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let output = Command::new(cargo).args(arguments).arg(manifest).output().unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names: Vec<_> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let (_, allowed) = LAYERS.iter().find(|(layer, _)| *layer == name).unwrap_or_else(|| {
            panic!("{name} is no layer of the design");
        });
        for dependency in package["dependencies"].as_array().unwrap() {
            let dependency = dependency["name"].as_str().unwrap();
            let is_ours = names.contains(&dependency);
            assert!(!is_ours || allowed.contains(&dependency), "{name} depends on {dependency}");
        }
    }
    assert_eq!(packages.len(), LAYERS.len());
}
