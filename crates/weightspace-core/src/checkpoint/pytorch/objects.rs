//! What the objects of a pickle mean to PyTorch: storages and tensors.

use crate::checkpoint::error::{Reason, quoted, reason};
use crate::checkpoint::pickle::{Object, Pickle, Value};
use crate::checkpoint::strided::View;
use crate::tensor::DType;

/// A parameter may be wrapped, and its tensor be a subclass, but not without end.
const MAX_WRAPPERS: usize = 8;
/// Most bytes of the key of a storage, which is a number.
const MAX_KEY: usize = 256;

/// A storage, as a persistent id names it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage<'a> {
    /// Name of the storage within the file.
    pub(super) key: &'a str,
    /// Element type; an untyped storage counts bytes.
    pub(super) dtype: Option<DType>,
    /// Number of elements.
    pub(super) elements: usize,
    /// Where the storage starts within the one that is in the file, in elements.
    pub(super) offset: usize,
}

impl Storage<'_> {
    /// Bytes of one element.
    pub(super) fn element_size(&self) -> usize {
        self.dtype.map_or(1, DType::size)
    }
}

/// A tensor that has not been read yet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TorchTensor<'a> {
    pub(super) storage: Storage<'a>,
    pub(super) view: View,
}

/// True for a reference to a storage, which every tensor holds somewhere inside.
pub(super) fn is_storage_reference(object: &Object) -> bool {
    matches!(object, Object::Persistent(_))
}

/// The storage that a persistent id names:
/// `("storage", class, key, device, elements[, (view key, offset, elements)])`.
pub(super) fn storage<'a>(pickle: &Pickle<'a>, id: Value<'a>) -> Result<Storage<'a>, Reason> {
    let id = pickle.tuple(id).unwrap_or_default();
    let &[
        Value::Str("storage"),
        class,
        Value::Str(key),
        _device,
        Value::Int(elements),
        ref view @ ..,
    ] = id
    else {
        return Err(reason!("a reference to a storage is not of the form of torch.save"));
    };
    let offset = match view {
        [] | [Value::None] => 0,
        [view] => match pickle.tuple(*view) {
            Some(&[_, Value::Int(offset), Value::Int(_)]) => count(offset)?,
            _ => return Err(reason!("the view of storage {} is malformed", quoted(key))),
        },
        _ => return Err(reason!("the reference to storage {} is too long", quoted(key))),
    };
    if key.len() > MAX_KEY {
        return Err(reason!("the key of a storage has {} bytes", key.len()));
    }
    let dtype = storage_dtype(pickle, class)
        .map_err(|Reason(reason)| reason!("storage {}: {reason}", quoted(key)))?;
    Ok(Storage { key, dtype, elements: count(elements)?, offset })
}

fn storage_dtype(pickle: &Pickle, class: Value) -> Result<Option<DType>, Reason> {
    let (module, name) =
        pickle.global(class).ok_or_else(|| reason!("its type is not the name of a class"))?;
    let dtype = match name.strip_suffix("Storage") {
        Some("Untyped" | "_Untyped") => return Ok(None),
        Some("Float") => DType::F32,
        Some("Double") => DType::F64,
        Some("Half") => DType::F16,
        Some("BFloat16") => DType::BF16,
        Some("Bool") => DType::Bool,
        Some("Byte") => DType::U8,
        Some("Char") => DType::I8,
        Some("Short") => DType::I16,
        Some("Int") => DType::I32,
        Some("Long") => DType::I64,
        _ => {
            let class = quoted(&format!("{module}.{name}"));
            return Err(reason!("elements of type {class} are not supported"));
        }
    };
    Ok(Some(dtype))
}

/// The element type that a global such as `torch.float32` names.
fn torch_dtype(pickle: &Pickle, value: Value) -> Result<DType, Reason> {
    let (_, name) = pickle.global(value).ok_or_else(|| reason!("has no element type"))?;
    Ok(match name {
        "float32" => DType::F32,
        "float64" => DType::F64,
        "float16" => DType::F16,
        "bfloat16" => DType::BF16,
        "bool" => DType::Bool,
        "uint8" => DType::U8,
        "int8" => DType::I8,
        "uint16" => DType::U16,
        "int16" => DType::I16,
        "uint32" => DType::U32,
        "int32" => DType::I32,
        "uint64" => DType::U64,
        "int64" => DType::I64,
        other => return Err(reason!("has elements of type {}", quoted(other))),
    })
}

/// The tensor that a value is, none if it is none.
pub(super) fn tensor<'a>(
    pickle: &Pickle<'a>,
    value: Value<'a>,
) -> Result<Option<TorchTensor<'a>>, Reason> {
    let mut value = value;
    for _ in 0..MAX_WRAPPERS {
        let Some(call) = pickle.call(value) else { return Ok(None) };
        let Some(callable) = pickle.global(call.callable) else { return Ok(None) };
        let arguments = pickle.tuple(call.arguments).unwrap_or_default();
        match (callable, arguments) {
            (("torch._utils", "_rebuild_tensor"), &[storage, offset, size, stride])
            | (("torch._utils", "_rebuild_tensor_v2"), &[storage, offset, size, stride, _, _]) => {
                return rebuild(pickle, storage, [offset, size, stride], None).map(Some);
            }
            (
                ("torch._utils", "_rebuild_tensor_v2"),
                &[storage, offset, size, stride, _, _, metadata],
            ) => {
                refuse_lazy_operations(pickle, metadata)?;
                return rebuild(pickle, storage, [offset, size, stride], None).map(Some);
            }
            (
                ("torch._utils", "_rebuild_tensor_v3"),
                &[storage, offset, size, stride, _, _, dtype, ref metadata @ ..],
            ) => {
                metadata.iter().try_for_each(|&m| refuse_lazy_operations(pickle, m))?;
                let dtype = torch_dtype(pickle, dtype)?;
                return rebuild(pickle, storage, [offset, size, stride], Some(dtype)).map(Some);
            }
            (
                ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
                | ("torch.nn.parameter", "Parameter" | "Buffer")
                | ("torch.autograd.variable", "Variable"),
                &[data, ..],
            ) => value = data,
            // A subclass of Tensor: (function, class, arguments of the function, attributes).
            (
                ("torch._tensor", "_rebuild_from_type_v2") | ("torch._utils", "_rebuild_from_type"),
                &[function, _, arguments, ..],
            ) => return rebuild_subclass(pickle, function, arguments).map(Some),
            _ => return Ok(None),
        }
    }
    Err(reason!("is wrapped more than {MAX_WRAPPERS} times"))
}

/// A tensor may be saved as one that is yet to be negated or conjugated.
fn refuse_lazy_operations(pickle: &Pickle, metadata: Value) -> Result<(), Reason> {
    match pickle.object(metadata) {
        Some(Object::Dict(items)) if items.iter().any(|&(_, value)| value == Value::Bool(true)) => {
            Err(reason!("is a lazily negated or conjugated view; save a clone of it"))
        }
        _ => Ok(()),
    }
}

fn rebuild_subclass<'a>(
    pickle: &Pickle<'a>,
    function: Value<'a>,
    arguments: Value<'a>,
) -> Result<TorchTensor<'a>, Reason> {
    let arguments = pickle.tuple(arguments).unwrap_or_default();
    match (pickle.global(function), arguments) {
        (
            Some(("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2")),
            &[storage, offset, size, stride, ..],
        ) => rebuild(pickle, storage, [offset, size, stride], None),
        _ => Err(reason!("is of a subclass of Tensor that is not supported")),
    }
}

fn rebuild<'a>(
    pickle: &Pickle<'a>,
    reference: Value<'a>,
    [offset, size, stride]: [Value<'a>; 3],
    dtype: Option<DType>,
) -> Result<TorchTensor<'a>, Reason> {
    let Some(Object::Persistent(id)) = pickle.object(reference) else {
        return Err(reason!("has no storage"));
    };
    let storage = storage(pickle, *id)?;
    let dtype = dtype.or(storage.dtype).ok_or_else(|| reason!("has no element type"))?;
    if dtype.size() != storage.element_size() && storage.offset != 0 {
        return Err(reason!("is a view of a storage of another type"));
    }
    let Value::Int(offset) = offset else { return Err(reason!("has no storage offset")) };
    let offset = count(offset)?
        .checked_add(storage.offset)
        .ok_or_else(|| reason!("has an impossible storage offset"))?;
    let (shape, strides) = (dimensions(pickle, size)?, dimensions(pickle, stride)?);
    Ok(TorchTensor { storage, view: View { dtype, shape, strides, offset } })
}

/// The integers of a tuple, a list or a `torch.Size`.
fn dimensions(pickle: &Pickle, value: Value) -> Result<Vec<usize>, Reason> {
    let elements = match pickle.object(value) {
        Some(Object::Tuple(elements) | Object::List(elements)) => elements.as_slice(),
        Some(Object::Call(call)) if pickle.global(call.callable) == Some(("torch", "Size")) => {
            match pickle.tuple(call.arguments) {
                Some(&[size]) => pickle.tuple(size).unwrap_or_default(),
                _ => return Err(reason!("has a malformed torch.Size")),
            }
        }
        _ => return Err(reason!("has no shape or no strides")),
    };
    if elements.len() > crate::checkpoint::contents::MAX_RANK {
        return Err(reason!("has {} dimensions", elements.len()));
    }
    elements
        .iter()
        .map(|&element| match element {
            Value::Int(n) => count(n),
            _ => Err(reason!("has a dimension that is no integer")),
        })
        .collect()
}

fn count(n: i64) -> Result<usize, Reason> {
    usize::try_from(n).map_err(|_| reason!("{n} where a count is expected"))
}
