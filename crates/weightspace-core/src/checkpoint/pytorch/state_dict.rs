//! Finds the state dict in whatever was saved: itself, inside a training checkpoint, or in the
//! modules of a whole pickled network.

use std::collections::{BTreeMap, HashSet};

use super::objects::{TorchTensor, is_storage_reference, tensor};
use crate::checkpoint::contents::MAX_TENSORS;
use crate::checkpoint::error::{Reason, quoted, reason};
use crate::checkpoint::pickle::{Object, Pickle, Searched, Value};

/// Where training scripts put the weights, in order of preference.
const WEIGHT_KEYS: [&str; 12] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "params",
    "parameters",
    "weights",
    "generator",
    "params_ema",
];
/// Most containers around the state dict.
const MAX_WRAPPERS: usize = 4;
/// Most levels of a nested dict or module.
const MAX_DEPTH: usize = 64;
/// Most values that are looked at while walking: containers may share parts, and a few that share
/// cleverly would unfold without end.
const MAX_VISITS: usize = 1 << 22;
/// Most bytes of a name.
const MAX_NAME: usize = 4096;
/// Most characters of a key that is only shown.
const MAX_SHOWN: usize = 64;
/// Most entries of the metadata, and bytes of each.
const MAX_METADATA: (usize, usize) = (64, 1024);

/// The tensors of a state dict in order, and the numbers and texts that stood beside it.
pub(super) struct StateDict<'a> {
    pub(super) tensors: Vec<(String, TorchTensor<'a>)>,
    pub(super) metadata: BTreeMap<String, String>,
    /// Keys beside the weights under which there are tensors, too.
    pub(super) left_out: Vec<String>,
    /// Whether the weights are those under the key that was asked for.
    pub(super) is_part: bool,
}

/// Finds the weights in what a pickle holds: under the key `part` of its outermost mapping, if it has that.
pub(super) fn find<'a>(pickle: &Pickle<'a>, part: Option<&str>) -> Result<StateDict<'a>, Reason> {
    let (mut metadata, mut left_out) = (BTreeMap::new(), Vec::new());
    let mut root = pickle.root;
    let named = part.and_then(|part| {
        let entries = mapping(pickle, root)?;
        let &(_, value) = entries.iter().find(|(key, _)| *key == Value::Str(part))?;
        Some((entries, value))
    });
    let is_part = named.is_some();
    if let Some((entries, value)) = named {
        add_metadata(&entries, &mut metadata);
        left_out.extend(beside(pickle, &entries, value));
        root = value;
    }
    for _ in 0..MAX_WRAPPERS {
        let Some(entries) = mapping(pickle, root) else { break };
        add_metadata(&entries, &mut metadata);
        match weights_entry(pickle, &entries) {
            Some(inner) => {
                left_out.extend(beside(pickle, &entries, inner));
                root = inner;
            }
            None => break,
        }
    }
    let searched = Searched::new(pickle);
    let mut walk = Walk { pickle, tensors: Vec::new(), left_out, visits: 0, searched };
    walk.visit(&mut String::new(), root, 0)?;
    if walk.tensors.is_empty() {
        return Err(reason!("the file holds no named tensors; save `model.state_dict()`"));
    }
    Ok(StateDict { tensors: walk.tensors, metadata, left_out: walk.left_out, is_part })
}

/// The entry of a training checkpoint that holds the weights: one of the usual keys, with a
/// container of tensors under it.
fn weights_entry<'a>(pickle: &Pickle<'a>, entries: &[(Value<'a>, Value<'a>)]) -> Option<Value<'a>> {
    WEIGHT_KEYS.iter().find_map(|&key| {
        let &(_, value) = entries.iter().find(|(k, _)| *k == Value::Str(key))?;
        let container = mapping(pickle, value).is_some() || module_state(pickle, value).is_some();
        (container && Searched::new(pickle).reaches(pickle, value, is_storage_reference))
            .then_some(value)
    })
}

/// Keys of the entries with tensors that are not the weights.
fn beside<'a>(
    pickle: &Pickle<'a>,
    entries: &[(Value<'a>, Value<'a>)],
    weights: Value<'a>,
) -> Vec<String> {
    let others = entries.iter().filter(|(_, value)| *value != weights).take(MAX_METADATA.0);
    let with_tensors = others
        .filter(|(_, value)| Searched::new(pickle).reaches(pickle, *value, is_storage_reference));
    let key = |(key, _): &(Value, Value)| match key {
        Value::Str(key) => key.chars().take(MAX_SHOWN).collect(),
        _ => "a key that is no text".to_owned(),
    };
    with_tensors.map(key).collect()
}

fn add_metadata(entries: &[(Value, Value)], metadata: &mut BTreeMap<String, String>) {
    let (most, longest) = MAX_METADATA;
    for (key, value) in entries {
        let text = match value {
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Str(value) if value.len() <= longest => (*value).to_owned(),
            _ => continue,
        };
        if let Value::Str(key) = key
            && key.len() <= longest
            && metadata.len() < most
        {
            metadata.insert((*key).to_owned(), text);
        }
    }
}

/// The entries of a dict, an `OrderedDict` or another mapping, in order.
fn mapping<'a>(pickle: &Pickle<'a>, value: Value<'a>) -> Option<Vec<(Value<'a>, Value<'a>)>> {
    match pickle.object(value)? {
        Object::Dict(items) => Some(items.clone()),
        Object::Call(call) => {
            let known = matches!(
                pickle.global(call.callable),
                Some(("collections", "OrderedDict" | "defaultdict"))
            );
            if !known && call.items.is_empty() {
                return None;
            }
            // Python 2 gave the entries of an OrderedDict as a list of pairs.
            let given = match pickle.tuple(call.arguments).and_then(|a| pickle.object(*a.first()?))
            {
                Some(Object::List(given)) if known => given.as_slice(),
                _ => &[],
            };
            let pair = |&pair| match pickle.object(pair) {
                Some(Object::List(pair) | Object::Tuple(pair)) => match pair[..] {
                    [key, value] => Some((key, value)),
                    _ => None,
                },
                _ => None,
            };
            Some(given.iter().filter_map(pair).chain(call.items.iter().copied()).collect())
        }
        _ => None,
    }
}

/// The attributes of a pickled `torch.nn.Module`.
fn module_state<'a>(pickle: &Pickle<'a>, value: Value<'a>) -> Option<Vec<(Value<'a>, Value<'a>)>> {
    let state = mapping(pickle, pickle.call(value)?.state)?;
    let has = |name| state.iter().any(|(key, _)| *key == Value::Str(name));
    (has("_parameters") && has("_modules")).then_some(state)
}

/// Collects tensors under dotted names.
struct Walk<'p, 'a> {
    pickle: &'p Pickle<'a>,
    tensors: Vec<(String, TorchTensor<'a>)>,
    left_out: Vec<String>,
    visits: usize,
    searched: Searched,
}

impl<'a> Walk<'_, 'a> {
    fn visit(&mut self, name: &mut String, value: Value<'a>, depth: usize) -> Result<(), Reason> {
        self.charge(value)?;
        if depth > MAX_DEPTH {
            return Err(reason!("{} is nested more than {MAX_DEPTH} deep", quoted(name)));
        }
        let found = tensor(self.pickle, value)
            .map_err(|Reason(reason)| reason!("tensor {} {reason}", quoted(name)))?;
        if let Some(found) = found {
            if self.tensors.len() == MAX_TENSORS {
                return Err(reason!("more than {MAX_TENSORS} tensors"));
            }
            self.tensors.push((name.clone(), found));
            return Ok(());
        }
        if let Some(state) = module_state(self.pickle, value) {
            return self.visit_module(name, &state, depth);
        }
        if let Some(entries) = mapping(self.pickle, value) {
            return self.visit_entries(name, &entries, depth);
        }
        match self.pickle.object(value) {
            Some(Object::List(elements) | Object::Tuple(elements)) => {
                elements.iter().enumerate().try_for_each(|(i, &element)| {
                    self.visit_child(name, &i.to_string(), element, depth)
                })
            }
            _ => self.refuse_hidden_tensors(name, value),
        }
    }

    /// Counts a value, with what looking at it once costs.
    fn charge(&mut self, value: Value<'a>) -> Result<(), Reason> {
        let breadth = |value| match self.pickle.object(value) {
            Some(Object::List(values) | Object::Tuple(values)) => values.len(),
            Some(Object::Dict(items)) => items.len(),
            Some(Object::Call(call)) => call.items.len(),
            _ => 0,
        };
        self.visits += 1 + breadth(value);
        if let Some(call) = self.pickle.call(value) {
            let given = self.pickle.tuple(call.arguments).and_then(|a| a.first().copied());
            self.visits += breadth(call.state) + given.map_or(0, breadth);
        }
        if self.visits > MAX_VISITS {
            return Err(reason!("the containers of the pickle unfold without end"));
        }
        Ok(())
    }

    fn visit_child(
        &mut self,
        name: &mut String,
        child: &str,
        value: Value<'a>,
        depth: usize,
    ) -> Result<(), Reason> {
        let length = name.len();
        if length + child.len() >= MAX_NAME {
            return Err(reason!("the name of {} is too long", quoted(child)));
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(child);
        self.visit(name, value, depth + 1)?;
        name.truncate(length);
        Ok(())
    }

    /// Keys that are no strings are left out: an optimiser numbers its state so, a network hardly ever.
    fn visit_entries(
        &mut self,
        name: &mut String,
        entries: &[(Value<'a>, Value<'a>)],
        depth: usize,
    ) -> Result<(), Reason> {
        for &(key, value) in entries {
            if let Value::Str(key) = key {
                self.visit_child(name, key, value, depth)?;
            }
        }
        let mut others = entries.iter().filter(|(key, _)| !matches!(key, Value::Str(_)));
        let holds_tensors = |(_, value): &(Value<'a>, Value<'a>)| {
            Searched::new(self.pickle).reaches(self.pickle, *value, is_storage_reference)
        };
        if self.left_out.len() < MAX_METADATA.0 && others.any(holds_tensors) {
            let shown: String = name.chars().take(MAX_SHOWN).collect();
            let of = if shown.is_empty() { shown } else { format!(" of {shown}") };
            self.left_out.push(format!("keys{of} that are no texts"));
        }
        Ok(())
    }

    /// What `state_dict()` of the module would give: its parameters, its persistent buffers, and
    /// those of the modules inside.
    fn visit_module(
        &mut self,
        name: &mut String,
        state: &[(Value<'a>, Value<'a>)],
        depth: usize,
    ) -> Result<(), Reason> {
        let attribute = |name| {
            let found = state.iter().find(|(key, _)| *key == Value::Str(name));
            found.map_or(Value::None, |&(_, value)| value)
        };
        let transient = attribute("_non_persistent_buffers_set");
        self.charge(transient)?;
        let transient = self.set(transient);
        for part in ["_parameters", "_buffers", "_modules"] {
            self.charge(attribute(part))?;
            let mut entries = mapping(self.pickle, attribute(part)).unwrap_or_default();
            if part == "_buffers" {
                entries
                    .retain(|(key, _)| !matches!(key, Value::Str(key) if transient.contains(key)));
            }
            self.visit_entries(name, &entries, depth)?;
        }
        Ok(())
    }

    /// The strings of a set, which protocols before 4 write as a call of `set`.
    fn set(&self, value: Value<'a>) -> HashSet<&'a str> {
        let list = match self.pickle.call(value) {
            Some(call) => self.pickle.tuple(call.arguments).and_then(|a| a.first().copied()),
            None => Some(value),
        };
        let elements = match list.and_then(|list| self.pickle.object(list)) {
            Some(Object::List(elements)) => elements.as_slice(),
            _ => &[],
        };
        let strings = elements.iter().filter_map(|element| match element {
            Value::Str(string) => Some(*string),
            _ => None,
        });
        strings.collect()
    }

    /// Objects of other kinds are no weights, unless they hold some in a form that is unknown
    /// here, such as a quantised tensor: that must not be lost in silence.
    fn refuse_hidden_tensors(&mut self, name: &str, value: Value<'a>) -> Result<(), Reason> {
        const META: (&str, &str) = ("torch._utils", "_rebuild_meta_tensor_no_storage");
        let callable = self.pickle.call(value).and_then(|call| self.pickle.global(call.callable));
        if callable == Some(META) {
            return Err(reason!("tensor {} is on the device meta: it has no values", quoted(name)));
        }
        if !self.searched.reaches(self.pickle, value, is_storage_reference) {
            return Ok(());
        }
        let class = callable.map_or("?".to_owned(), |(module, name)| format!("{module}.{name}"));
        Err(reason!(
            "{} holds tensors in an object of type {} that is not supported; save \
             `model.state_dict()`",
            quoted(name),
            quoted(&class)
        ))
    }
}
