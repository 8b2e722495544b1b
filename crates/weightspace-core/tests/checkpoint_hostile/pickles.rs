//! Pickles that call functions, recurse, multiply or refer to what is not there.

use super::{Hostile, all_are_refused, try_to_read};

/// Parts of pickles, each of which leaves one value on the stack.
fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn int(value: i64) -> Vec<u8> {
    [&b"\x8a\x08"[..], &value.to_le_bytes()].concat()
}

fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

fn tuple(parts: &[Vec<u8>]) -> Vec<u8> {
    [&b"("[..], &parts.concat(), b"t"].concat()
}

fn dict(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> =
        entries.iter().flat_map(|(k, v)| [k.clone(), v.clone()].concat()).collect();
    [&b"}("[..], &entries, b"u"].concat()
}

fn call(function: Vec<u8>, arguments: &[Vec<u8>]) -> Vec<u8> {
    [function, tuple(arguments), b"R".to_vec()].concat()
}

fn persistent(id: Vec<u8>) -> Vec<u8> {
    [id, b"Q".to_vec()].concat()
}

fn storage_of(class: &str, key: &str, elements: i64) -> Vec<u8> {
    let class = global("torch", class);
    persistent(tuple(&[text("storage"), class, text(key), text("cpu"), int(elements)]))
}

fn storage() -> Vec<u8> {
    storage_of("FloatStorage", "0", 4)
}

fn ints(values: &[i64]) -> Vec<u8> {
    tuple(&values.iter().map(|&value| int(value)).collect::<Vec<_>>())
}

fn rebuild(storage: Vec<u8>, offset: i64, size: &[i64], stride: &[i64]) -> Vec<u8> {
    let hooks = call(global("collections", "OrderedDict"), &[]);
    let arguments = [storage, int(offset), ints(size), ints(stride), b"\x89".to_vec(), hooks];
    call(global("torch._utils", "_rebuild_tensor_v2"), &arguments)
}

fn tensor() -> Vec<u8> {
    rebuild(storage(), 0, &[4], &[1])
}

fn whole(value: Vec<u8>) -> Vec<u8> {
    [&b"\x80\x02"[..], &value, b"."].concat()
}

/// The pickle of a dict with one tensor of four elements in storage 0.
pub fn checkpoint() -> Vec<u8> {
    whole(dict(&[(text("weight"), tensor())]))
}

const MAGIC: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";

fn system(little_endian: u8) -> Vec<u8> {
    whole(dict(&[(text("little_endian"), vec![little_endian])]))
}

/// A legacy file with this pickle and a storage `0` of four floats.
fn legacy(pickle: &[u8]) -> Vec<u8> {
    legacy_with(
        pickle,
        &[&b"](U\x010e"[..]].concat(),
        &[&4u64.to_le_bytes()[..], &[0; 16]].concat(),
    )
}

fn legacy_with(pickle: &[u8], keys: &[u8], storages: &[u8]) -> Vec<u8> {
    [MAGIC, &system(0x88), pickle, &whole(keys.to_vec()), storages].concat()
}

fn legacy_of(value: Vec<u8>) -> Vec<u8> {
    legacy(&whole(value))
}

fn state_dict(value: Vec<u8>) -> Vec<u8> {
    legacy_of(dict(&[(text("weight"), value)]))
}

#[test]
fn the_intact_pickle_is_accepted() {
    assert_eq!(try_to_read("intact", &state_dict(tensor())).unwrap().element_count(), 4);
}

/// What an attacker would put into a checkpoint, by `__reduce__` or by hand.
#[test]
fn pickles_that_call_functions() {
    let mut table = Vec::new();
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("os", "popen"),
        ("os.path", "join"),
        ("subprocess", "Popen"),
        ("subprocess", "check_output"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "open"),
        ("builtins", "__import__"),
        ("builtins", "compile"),
        ("__builtin__", "eval"),
        ("__builtin__", "execfile"),
        ("__builtin__", "apply"),
        ("importlib", "import_module"),
        ("runpy", "run_path"),
        ("shutil", "rmtree"),
        ("socket", "create_connection"),
        ("pty", "spawn"),
        ("sys", "exit"),
        ("ctypes", "CDLL"),
        ("webbrowser", "open"),
        ("pickle", "loads"),
        ("_pickle", "loads"),
        ("urllib.request", "urlopen"),
        ("multiprocessing.util", "_exit_function"),
        ("os\x1b[2J", "system"),
    ] {
        let evil = || call(global(module, name), &[text("touch /tmp/pwned")]);
        let stack_global =
            [text(module), text(name), vec![0x93], tuple(&[text("x")]), b"R".to_vec()];
        let what = format!("{module}.{name}").escape_debug().to_string();
        // The name with escapes is a module of its own, harmless but also without any tensor.
        let message = if module.contains('\x1b') { "no named tensors" } else { "refused" };
        for (place, bytes) in [
            ("alone", legacy_of(evil())),
            ("as a weight", state_dict(evil())),
            ("by its name on the stack", legacy_of(stack_global.concat())),
            ("in a list", state_dict([&b"]"[..], &evil(), b"a"].concat())),
        ] {
            table.push(Hostile::new(format!("{what} {place}"), bytes, message));
        }
        if message == "refused" {
            let beside = dict(&[(text("weight"), tensor()), (text("x"), evil())]);
            table.push(Hostile::new(format!("{what} beside a weight"), legacy_of(beside), message));
            let new = [global(module, name), b")\x81}b".to_vec()].concat();
            table.push(Hostile::new(format!("{what} as a class"), state_dict(new), message));
            let bare = whole(evil());
            table.push(Hostile::new(format!("{what} in a bare pickle"), bare, message));
        }
    }
    all_are_refused(table);
}

#[test]
fn functions_that_are_not_known_are_not_called_on_tensors() {
    let unknown = |module, name| state_dict(call(global(module, name), &[tensor()]));
    let mut table = Vec::new();
    for (module, name) in [
        ("torch._utils", "_rebuild_qtensor"),
        ("torch._utils", "_rebuild_sparse_tensor"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("my.module", "Quantised"),
        ("builtins", "getattr"),
    ] {
        table.push(Hostile::new(format!("{module}.{name}"), unknown(module, name), "\"weight\""));
    }
    all_are_refused(table);
    // Without tensors inside, such objects are merely no weights.
    let scalar = call(global("numpy.core.multiarray", "scalar"), &[int(3)]);
    let beside = legacy_of(dict(&[(text("weight"), tensor()), (text("lr"), scalar)]));
    assert_eq!(try_to_read("a scalar beside", &beside).unwrap().len(), 1);
}

#[test]
fn tensors_that_do_not_fit() {
    let max = i64::MAX;
    let view =
        |size: &[i64], stride: &[i64], offset| state_dict(rebuild(storage(), offset, size, stride));
    let mut table = vec![
        Hostile::new("too large", view(&[5], &[1], 0), "needs 20 bytes"),
        Hostile::new("too far", view(&[4], &[1], 1), "needs 20 bytes"),
        Hostile::new("a wide stride", view(&[4], &[2], 0), "needs 28 bytes"),
        Hostile::new("a negative size", view(&[-4], &[1], 0), "-4"),
        Hostile::new("a negative stride", view(&[4], &[-1], 3), "-1"),
        Hostile::new("a negative offset", view(&[4], &[1], -1), "-1"),
        Hostile::new("an endless size", view(&[max], &[1], 0), "impossible"),
        Hostile::new("an endless stride", view(&[2], &[max], 0), "needs"),
        Hostile::new("an endless offset", view(&[1], &[1], max), "needs"),
        Hostile::new("overflowing sizes", view(&[max, max, max], &[0, 0, 0], 0), "impossible"),
        Hostile::new("overflow behind nothing", view(&[0, max, max], &[1, 1, 1], 0), "impossible"),
        Hostile::new("broadcast without end", view(&[1 << 30, 1 << 20], &[0, 0], 0), "plausible"),
        Hostile::new("fewer strides", view(&[2, 2], &[1], 0), "strides"),
        Hostile::new("more strides", view(&[4], &[1, 1], 0), "strides"),
        Hostile::new("too many dimensions", view(&[1; 33], &[1; 33], 0), "33 dimensions"),
        Hostile::new("a scalar outside", view(&[], &[], 4), "needs 20 bytes"),
    ];
    for class in ["ComplexFloatStorage", "QInt8Storage", "Storage", "system", "FloatStorage2"] {
        let bytes = state_dict(rebuild(storage_of(class, "0", 4), 0, &[4], &[1]));
        table.push(Hostile::new(class, bytes, "not supported"));
    }
    let untyped = rebuild(storage_of("UntypedStorage", "0", 16), 0, &[4], &[1]);
    table.push(Hostile::new("no type", state_dict(untyped), "element type"));
    let broken_view = |view: Vec<u8>| {
        let class = global("torch", "FloatStorage");
        persistent(tuple(&[text("storage"), class, text("0"), text("cpu"), int(4), view]))
    };
    for (what, view) in [("int", int(3)), ("tuple", ints(&[1])), ("negative", ints(&[0, -1, 2]))] {
        let bytes = state_dict(rebuild(broken_view(view), 0, &[4], &[1]));
        table.push(Hostile::new(format!("a view that is a {what}"), bytes, ""));
    }
    let far = broken_view(tuple(&[text("1"), int(2), int(2)]));
    table.push(Hostile::new("a view that ends", state_dict(rebuild(far, 0, &[3], &[1])), "needs"));
    let negated = |metadata: Vec<u8>| {
        let hooks = b"N".to_vec();
        let arguments =
            [storage(), int(0), ints(&[4]), ints(&[1]), b"\x89".to_vec(), hooks, metadata];
        state_dict(call(global("torch._utils", "_rebuild_tensor_v2"), &arguments))
    };
    let flag = dict(&[(text("neg"), b"\x88".to_vec())]);
    table.push(Hostile::new("a negated view", negated(flag), "lazily"));
    let mut nested = tensor();
    for _ in 0..20 {
        nested = call(global("torch._utils", "_rebuild_parameter"), &[nested, b"\x89N".to_vec()]);
    }
    table.push(Hostile::new("wrapped often", state_dict(nested), ""));
    all_are_refused(table);
}

#[test]
fn malformed_references_and_arguments() {
    let function = || global("torch._utils", "_rebuild_tensor_v2");
    let mut table = Vec::new();
    for (what, arguments) in [
        ("no arguments", vec![]),
        ("too few arguments", vec![storage(), int(0), ints(&[4])]),
        ("too many arguments", (0..9).map(|_| storage()).collect()),
        ("no storage", vec![int(0), int(0), ints(&[4]), ints(&[1]), int(0), int(0)]),
        ("no offset", vec![storage(), text("0"), ints(&[4]), ints(&[1]), int(0), int(0)]),
        ("no size", vec![storage(), int(0), int(4), ints(&[1]), int(0), int(0)]),
        ("no stride", vec![storage(), int(0), ints(&[4]), int(1), int(0), int(0)]),
        ("text as size", vec![storage(), int(0), tuple(&[text("4")]), ints(&[1]), int(0), int(0)]),
        ("a tensor as storage", vec![tensor(), int(0), ints(&[4]), ints(&[1]), int(0), int(0)]),
    ] {
        table.push(Hostile::new(what, state_dict(call(function(), &arguments)), ""));
    }
    for (what, id) in [
        ("an integer", int(0)),
        ("text", text("storage")),
        ("an empty tuple", tuple(&[])),
        ("too short", tuple(&[text("storage"), global("torch", "FloatStorage"), text("0")])),
        ("another kind", tuple(&[text("elsewhere"), int(0), text("0"), text("cpu"), int(4)])),
        ("no class", tuple(&[text("storage"), int(0), text("0"), text("cpu"), int(4)])),
        (
            "no count",
            tuple(&[
                text("storage"),
                global("torch", "FloatStorage"),
                text("0"),
                text("cpu"),
                text("4"),
            ]),
        ),
        (
            "a long key",
            tuple(&[
                text("storage"),
                global("torch", "FloatStorage"),
                text(&"0".repeat(9999)),
                text("cpu"),
                int(4),
            ]),
        ),
    ] {
        let bytes = state_dict(rebuild(persistent(id), 0, &[4], &[1]));
        table.push(Hostile::new(format!("reference: {what}"), bytes, ""));
    }
    for (what, elements) in [("negative", -1), ("fewer", 3), ("more", 5), ("endless", i64::MAX)] {
        let bytes = state_dict(rebuild(storage_of("FloatStorage", "0", elements), 0, &[2], &[1]));
        table.push(Hostile::new(format!("a count that is {what}"), bytes, ""));
    }
    all_are_refused(table);
}

#[test]
fn malformed_legacy_files() {
    let pickle = checkpoint();
    let count = |n: u64| n.to_le_bytes().to_vec();
    let good = [count(4), vec![0; 16]].concat();
    let key = b"](U\x010e".to_vec();
    let file = |keys: &[u8], storages: &[u8]| legacy_with(&pickle, keys, storages);
    let prefix = |protocol: &[u8], system: &[u8]| {
        [&MAGIC[..15], protocol, system, &pickle, &whole(key.clone()), &good].concat()
    };
    let protocol = &MAGIC[15..];
    let conflicting = dict(&[
        (text("a"), tensor()),
        (text("b"), rebuild(storage_of("DoubleStorage", "0", 4), 0, &[1], &[1])),
    ]);
    all_are_refused(vec![
        Hostile::new("another protocol", prefix(b"\x80\x02M\xe8\x03.", &system(0x88)), "version"),
        Hostile::new("big-endian", prefix(protocol, &system(0x89)), "little-endian"),
        Hostile::new("no byte order", prefix(protocol, &whole(dict(&[]))), "little-endian"),
        Hostile::new("no system", prefix(protocol, &whole(int(1))), "system"),
        Hostile::new("only magic", MAGIC[..15].to_vec(), "ends early"),
        Hostile::new("another magic", whole(int(77)), "torch.save did not write"),
        Hostile::new("a bare pickle", pickle.clone(), "torch.save did not write"),
        Hostile::new("no storages", file(b"]", &[]), "missing"),
        Hostile::new("no list", file(b"N", &good), "list of storages"),
        Hostile::new("keys that are integers", file(b"](K\x00e", &good), "not a string"),
        Hostile::new("an unknown key", file(b"](U\x011e", &good), "never referred"),
        Hostile::new("a key twice", file(b"](U\x010U\x010e", &good.repeat(2)), "listed twice"),
        Hostile::new("a short count", file(&key, &[0; 7]), "end of the file"),
        Hostile::new("another count", file(&key, &[count(5), vec![0; 20]].concat()), "says 5"),
        Hostile::new("no data", file(&key, &count(4)), "ends within"),
        Hostile::new("little data", file(&key, &good[..23]), "ends within"),
        Hostile::new("two sizes", legacy_of(conflicting), "two sizes"),
    ]);
}

#[test]
fn malformed_opcodes() {
    let mut table = Vec::new();
    let mut refuse = |what: String, value: Vec<u8>, message| {
        table.push(Hostile::new(what, legacy_of(value), message));
    };
    // Every opcode alone, on an empty stack: none makes a state dict.
    for opcode in 0..=255u8 {
        refuse(format!("opcode {opcode:#x}"), vec![opcode], "");
        refuse(format!("opcode {opcode:#x} and bytes"), [&[opcode][..], &[0xff; 16]].concat(), "");
        refuse(format!("opcode {opcode:#x} on a value"), vec![b'N', opcode, b'\n', b'\n'], "");
        refuse(format!("opcode {opcode:#x} on a mark"), vec![b'(', opcode, b'\n', b'\n'], "");
    }
    for (what, value, message) in [
        ("a length of 4 GB", b"X\xff\xff\xff\xff".to_vec(), "ends early"),
        ("a length of all bits", [&[0x8d][..], &[0xff; 8]].concat(), "ends early"),
        ("bytes of all bits", [&[0x8e][..], &[0xff; 8]].concat(), "ends early"),
        ("a negative long", b"\x8b\xff\xff\xff\xff".to_vec(), "ends early"),
        ("a distant memo", b"Nr\xff\xff\xff\xff".to_vec(), "memo slot"),
        ("a missing memo", b"h\x07".to_vec(), "is empty"),
        ("a key without value", b"}(Nu".to_vec(), "no value"),
        ("an item of nothing", b"N(NNu".to_vec(), "plain value"),
        ("an element of a dict", b"}Na".to_vec(), "not a list"),
        ("an item of a list", b"]NNs".to_vec(), "not a dict"),
        ("attributes of a list", b"]}b".to_vec(), "not an object"),
        ("a name without end", b"cos".to_vec(), "no end"),
        ("a name that is not UTF-8", b"c\xff\nx\n".to_vec(), "UTF-8"),
        ("a name of integers", b"K\x01K\x02\x93".to_vec(), "not a string"),
        ("below a mark", b"N(\x85".to_vec(), "fewer than 1"),
        ("protocol 9", b"\x80\x09N".to_vec(), "protocol 9"),
        ("a text protocol", b"I1\n".to_vec(), "opcode"),
        ("an extension", b"\x82\x01".to_vec(), "opcode"),
    ] {
        refuse(what.to_owned(), value, message);
    }
    all_are_refused(table);
}

/// Small files that would take much time, memory or stack.
#[test]
fn pickles_that_multiply() {
    // A list of ten times the previous list, many times over.
    let mut laughs = b"]q\x00N".to_vec();
    for level in 0..100u8 {
        laughs.extend(
            [b"](".to_vec(), [b'h', level].repeat(10), vec![b'e', b'q', level + 1]].concat(),
        );
    }
    let tower = |open: &[u8], depth: usize| open.repeat(depth);
    let many_names: Vec<u8> = [&b"}("[..], &b"NN".repeat(1 << 20), b"u"].concat();
    let name = "n".repeat(4000);
    let long_names: Vec<_> =
        (0..20_000).map(|i| (text(&format!("{name}{i}")), b"h\x01".to_vec())).collect();
    let shared = [tensor(), b"q\x010".to_vec(), dict(&long_names)].concat();
    let mut unfolding = [tensor(), b"q\x00".to_vec()].concat();
    for level in 0..60u8 {
        let entries = [text("a"), vec![b'h', level], text("b"), vec![b'h', level]].concat();
        unfolding.extend([b"}(".to_vec(), entries, vec![b'u', b'q', level + 1]].concat());
    }
    // A dict that holds itself, under a name.
    let cycle =
        [b"}q\x00".to_vec(), text("a"), b"h\x00s".to_vec(), text("t"), tensor(), b"s".to_vec()];
    let wide = |entry: Vec<u8>, count: usize| {
        [b"](".to_vec(), entry.repeat(count), b"e".to_vec()].concat()
    };
    let deep_module = {
        let mut module = Vec::new();
        for _ in 0..5000 {
            module.extend(
                [
                    global("n", "N"),
                    b")\x81}(".to_vec(),
                    text("_parameters"),
                    b"}".to_vec(),
                    text("_modules"),
                    b"}".to_vec(),
                    text("x"),
                ]
                .concat(),
            );
        }
        module.extend(tensor());
        module.extend(b"sub".repeat(5000));
        module
    };
    all_are_refused(vec![
        Hostile::new("billion laughs", state_dict(laughs), ""),
        Hostile::new(
            "nested lists",
            state_dict([tower(b"]", 1 << 19), tower(b"a", (1 << 19) - 1)].concat()),
            "",
        ),
        Hostile::new(
            "nested tuples",
            state_dict([b"N".to_vec(), tower(b"\x85", 1 << 20)].concat()),
            "",
        ),
        Hostile::new(
            "nested dicts",
            state_dict([tower(b"}K\x01", 1 << 18), b"N".to_vec(), tower(b"s", 1 << 18)].concat()),
            "",
        ),
        Hostile::new("marks", legacy_of(tower(b"(", 1 << 20)), ""),
        Hostile::new("more steps than allowed", legacy_of(tower(b"N0", 1 << 21)), "steps"),
        Hostile::new(
            "duplicates",
            legacy_of([b"N".to_vec(), tower(b"2", 1 << 22)].concat()),
            "steps",
        ),
        Hostile::new(
            "memos",
            legacy_of([b"N".to_vec(), tower(b"\x94", 1 << 22)].concat()),
            "steps",
        ),
        Hostile::new("empty containers", legacy_of(tower(b"]", 1 << 22)), "steps"),
        Hostile::new("many keys", state_dict(many_names), ""),
        Hostile::new("long names", legacy_of(shared), "names of the tensors"),
        Hostile::new("dicts that share parts", legacy_of(unfolding), ""),
        Hostile::new("a dict that holds itself", legacy_of(cycle.concat()), "nested"),
        Hostile::new("a wide list of lists", state_dict(wide(wide(b"N".to_vec(), 1000), 1000)), ""),
        Hostile::new("deep modules", legacy_of(deep_module), "nested"),
    ]);
}

#[test]
fn names_that_clash_or_mislead() {
    let twice = dict(&[(text("a"), tensor()), (text("a"), tensor())]);
    let nested = dict(&[(text("a.b"), tensor()), (text("a"), dict(&[(text("b"), tensor())]))]);
    let control = dict(&[(text("\n\x1b[2Jx"), rebuild(storage(), 9, &[4], &[1]))]);
    let long = dict(&[(text(&"x".repeat(5000)), tensor())]);
    let none = dict(&[(text("epoch"), int(3))]);
    let numbered = dict(&[(int(0), tensor())]);
    all_are_refused(vec![
        Hostile::new("a name twice", legacy_of(twice), "two tensors are named \"a\""),
        Hostile::new("a nested name twice", legacy_of(nested), "two tensors are named \"a.b\""),
        Hostile::new("control characters", legacy_of(control), r#""\n\u{1b}[2Jx""#),
        Hostile::new("a long name", legacy_of(long), "too long"),
        Hostile::new("no tensors", legacy_of(none), "model.state_dict()"),
        Hostile::new("numbered tensors", legacy_of(numbered), "model.state_dict()"),
        Hostile::new("a single number", legacy_of(int(3)), "model.state_dict()"),
    ]);
}
