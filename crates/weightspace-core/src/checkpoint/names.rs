//! One form for the names of parameters, whatever wrapper the model was saved in.

use crate::tensor::TensorInfo;

/// What `DataParallel` and `torch.compile` put before every name of the module they wrap.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// Strips the prefixes of wrappers, nested in any order, as long as *all* names carry them, and
/// returns what was stripped: a network may have one child that is called `module`.
pub(super) fn strip_wrappers(tensors: &mut [TensorInfo]) -> String {
    let mut stripped = 0;
    while let Some(wrapper) = WRAPPERS.into_iter().find(|wrapper| {
        !tensors.is_empty() && tensors.iter().all(|t| t.name[stripped..].starts_with(wrapper))
    }) {
        stripped += wrapper.len();
    }
    let prefix = tensors.first().map_or(String::new(), |t| t.name[..stripped].to_owned());
    for tensor in tensors {
        tensor.name.drain(..stripped);
    }
    prefix
}

/// The first parts of all names, each once, as many as a message can hold.
pub(super) fn first_parts(tensors: &[TensorInfo]) -> Vec<String> {
    const MOST: usize = 16;
    let mut parts: Vec<String> = Vec::new();
    for tensor in tensors {
        let part = tensor.name.split('.').next().unwrap_or_default();
        if parts.len() < MOST && !parts.iter().any(|known| known == part) {
            parts.push(part.to_owned());
        }
    }
    parts
}

/// The longest run of modules with which all names begin, each with its dot; the last part of a name is no module.
pub(super) fn shared_modules(tensors: &[TensorInfo]) -> &str {
    let Some((first, rest)) = tensors.split_first() else { return "" };
    let modules = |name: &str| name.rfind('.').map_or(0, |dot| dot + 1);
    let shared = rest.iter().fold(modules(&first.name), |length, tensor| {
        let same = first.name.bytes().zip(tensor.name.bytes()).take(length);
        let same = same.take_while(|(a, b)| a == b).count();
        first.name.as_bytes()[..same]
            .iter()
            .rposition(|&byte| byte == b'.')
            .map_or(0, |dot| dot + 1)
    });
    &first.name[..shared]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    fn strip(names: &[&str]) -> (String, Vec<String>) {
        let info = |n: &&str| TensorInfo { name: n.to_string(), dtype: DType::F32, shape: vec![] };
        let mut tensors: Vec<_> = names.iter().map(info).collect();
        let prefix = strip_wrappers(&mut tensors);
        (prefix, tensors.into_iter().map(|t| t.name).collect())
    }

    #[test]
    fn wrappers_go_when_every_name_has_them() {
        let (prefix, names) = strip(&["module._orig_mod.a.weight", "module._orig_mod.module.b"]);
        assert_eq!(prefix, "module._orig_mod.");
        assert_eq!(names, ["a.weight", "module.b"]);
        let (prefix, names) = strip(&["module.a", "head.a"]);
        assert_eq!(prefix, "");
        assert_eq!(names, ["module.a", "head.a"]);
        assert_eq!(strip(&[]).0, "");
    }

    #[test]
    fn modules_are_shared_by_all_names_or_by_none() {
        let info = |n: &&str| TensorInfo { name: n.to_string(), dtype: DType::F32, shape: vec![] };
        let shared = |names: &[&str]| {
            let tensors: Vec<_> = names.iter().map(info).collect();
            shared_modules(&tensors).to_owned()
        };
        assert_eq!(shared(&["model.a", "model.b.c"]), "model.");
        assert_eq!(shared(&["model.net.a", "model.net.b.c", "model.net.b.d"]), "model.net.");
        assert_eq!(shared(&["model.a.weight", "model.a.bias"]), "model.a.");
        for names in [&[][..], &["model"], &["model.a", "models.b"], &["model.a", "b.model.c"]] {
            assert_eq!(shared(names), "", "{names:?}");
        }
    }
}
