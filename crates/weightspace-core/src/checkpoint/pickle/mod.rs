//! Pickles as data: the graph of objects that a pickle describes, with nothing executed.
//!
//! A pickle is a program for a stack machine that may import and call anything. This reader runs
//! only the part of the machine that builds containers; an import becomes a name, a call becomes
//! a node that holds the callable's name and its arguments. What the nodes mean is for the reader
//! of a format to say (see `pytorch::objects`); there is no way to have one carried out.

mod machine;

use super::error::{Reason, quoted, reason};

/// A value on the stack of a pickle. Strings borrow from the pickle, containers live in
/// [`Pickle`], so that a value is cheap to copy and a memo cannot multiply what it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// An integer of more than 64 bits, little-endian two's complement.
    Long(&'a [u8]),
    Str(&'a str),
    /// Bytes, also a string that is not UTF-8 or is too long to be of interest.
    Bytes(&'a [u8]),
    Object(ObjectId),
}

/// Index of an object of a [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ObjectId(u32);

/// A node of the graph.
#[derive(Debug)]
pub(super) enum Object<'a> {
    /// The name of a class or function.
    Global {
        module: &'a str,
        name: &'a str,
    },
    /// A reference to something outside the pickle.
    Persistent(Value<'a>),
    Tuple(Vec<Value<'a>>),
    /// A list or a set.
    List(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    Call(Box<Call<'a>>),
}

/// A call that loading the pickle in Python would make, and what it would do with the result.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) callable: Value<'a>,
    /// A tuple, unless the pickle is malformed.
    pub(super) arguments: Value<'a>,
    /// What `__setstate__` would be given, usually the attributes as a dict.
    pub(super) state: Value<'a>,
    /// What would be appended to the result.
    pub(super) elements: Vec<Value<'a>>,
    /// What would be assigned to keys of the result.
    pub(super) items: Vec<(Value<'a>, Value<'a>)>,
}

/// Modules and functions that no checkpoint needs and that run code or touch files.
const FORBIDDEN_MODULES: [&str; 22] = [
    "_pickle",
    "asyncio",
    "code",
    "commands",
    "ctypes",
    "http",
    "importlib",
    "multiprocessing",
    "nt",
    "os",
    "pickle",
    "posix",
    "pty",
    "requests",
    "runpy",
    "shutil",
    "socket",
    "subprocess",
    "sys",
    "tempfile",
    "urllib",
    "webbrowser",
];
const FORBIDDEN_BUILTINS: [&str; 12] = [
    "__import__",
    "apply",
    "breakpoint",
    "compile",
    "delattr",
    "eval",
    "exec",
    "execfile",
    "globals",
    "input",
    "open",
    "vars",
];

/// The objects of one pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    objects: Vec<Object<'a>>,
    /// What the pickle is of.
    pub(super) root: Value<'a>,
}

impl<'a> Pickle<'a> {
    /// Parses the pickle at the start of `bytes`, and says how long it is.
    ///
    /// Time and memory are bounded whatever the bytes are. A pickle that would call a function
    /// that runs code or touches files is refused outright: although nothing would happen here,
    /// it is no honest checkpoint.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<(Self, usize), Reason> {
        let (pickle, length) = machine::run(bytes)?;
        pickle.refuse_forbidden_calls()?;
        Ok((pickle, length))
    }

    /// The node that a value refers to, if it is no plain value.
    pub(super) fn object(&self, value: Value<'a>) -> Option<&Object<'a>> {
        match value {
            Value::Object(ObjectId(id)) => self.objects.get(id as usize),
            _ => None,
        }
    }

    /// All nodes, in the order in which they were made.
    pub(super) fn objects(&self) -> &[Object<'a>] {
        &self.objects
    }

    /// The elements of a tuple.
    pub(super) fn tuple(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match self.object(value)? {
            Object::Tuple(elements) => Some(elements),
            _ => None,
        }
    }

    /// The call that made an object.
    pub(super) fn call(&self, value: Value<'a>) -> Option<&Call<'a>> {
        match self.object(value)? {
            Object::Call(call) => Some(call),
            _ => None,
        }
    }

    /// Module and name of a class or function.
    pub(super) fn global(&self, value: Value<'a>) -> Option<(&'a str, &'a str)> {
        match self.object(value)? {
            Object::Global { module, name } => Some((module, name)),
            _ => None,
        }
    }

    fn refuse_forbidden_calls(&self) -> Result<(), Reason> {
        for object in &self.objects {
            // Naming such a function is as good a sign as calling it: the name may reach a call
            // through any container.
            if let Object::Global { module, name } = object {
                let package = module.split('.').next().unwrap_or(module);
                let builtin = matches!(*module, "builtins" | "__builtin__");
                if FORBIDDEN_MODULES.contains(&package)
                    || builtin && FORBIDDEN_BUILTINS.contains(name)
                {
                    let function = format!("{module}.{name}");
                    return Err(reason!("the pickle wants to use {}: refused", quoted(&function)));
                }
            }
        }
        Ok(())
    }
}

/// Marks the objects that were found to hold nothing of interest, so that searching many objects
/// that share parts takes time in proportion to the pickle.
pub(super) struct Searched(Vec<bool>);

impl Searched {
    pub(super) fn new(pickle: &Pickle) -> Self {
        Searched(vec![false; pickle.objects.len()])
    }

    /// True if an object that `wanted` accepts can be reached from `value`. Give the same
    /// `wanted` at every call, and stop after the first that is true: the marks are void then.
    pub(super) fn reaches(
        &mut self,
        pickle: &Pickle,
        value: Value,
        wanted: impl Fn(&Object) -> bool,
    ) -> bool {
        let mut pending = vec![value];
        while let Some(value) = pending.pop() {
            let Value::Object(ObjectId(id)) = value else { continue };
            if std::mem::replace(&mut self.0[id as usize], true) {
                continue;
            }
            let object = &pickle.objects[id as usize];
            if wanted(object) {
                return true;
            }
            match object {
                Object::Global { .. } => {}
                Object::Persistent(id) => pending.push(*id),
                Object::Tuple(values) | Object::List(values) => pending.extend(values),
                Object::Dict(items) => pending.extend(items.iter().flat_map(|&(k, v)| [k, v])),
                Object::Call(call) => {
                    pending.extend([call.callable, call.arguments, call.state]);
                    pending.extend(&call.elements);
                    pending.extend(call.items.iter().flat_map(|&(k, v)| [k, v]));
                }
            }
        }
        false
    }
}
