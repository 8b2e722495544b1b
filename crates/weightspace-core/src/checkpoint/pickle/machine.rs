//! The stack machine: protocols 2 to 5, as far as `torch.save` and `numpy` use them.

use super::{Call, Object, ObjectId, Pickle, Value};
use crate::checkpoint::error::{Reason, reason};

/// Most steps of one pickle, which bounds time and memory. The state dict of a network takes
/// about 30 per tensor, an Adam checkpoint about 150 per parameter.
const MAX_STEPS: usize = 1 << 21;
/// Longer strings are left as bytes; nobody calls a parameter so.
const MAX_STRING: usize = 1 << 16;

/// Runs the pickle at the start of `bytes` and returns it with its length.
pub(super) fn run(bytes: &[u8]) -> Result<(Pickle<'_>, usize), Reason> {
    let mut machine = Machine {
        bytes,
        position: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        objects: Vec::new(),
    };
    for step in 0..MAX_STEPS {
        let start = machine.position;
        let opcode = machine.byte()?;
        if opcode == b'.' {
            let root = machine.pop()?;
            return Ok((Pickle { objects: machine.objects, root }, machine.position));
        }
        machine.step(opcode, step).map_err(|Reason(reason)| {
            reason!("{reason} (pickle opcode {:?} at byte {start})", opcode.escape_ascii())
        })?;
    }
    Err(reason!("the pickle takes more than {MAX_STEPS} steps"))
}

struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack at the marks that are open.
    marks: Vec<usize>,
    memo: Vec<Option<Value<'a>>>,
    objects: Vec<Object<'a>>,
}

impl<'a> Machine<'a> {
    fn step(&mut self, opcode: u8, step: usize) -> Result<(), Reason> {
        if let Some(value) = self.literal(opcode)? {
            self.stack.push(value);
            return Ok(());
        }
        match opcode {
            // Protocol and frames: the machine is the same for all, and frames are a hint.
            0x80 => match self.byte()? {
                2..=5 => {}
                other => return Err(reason!("pickle protocol {other} is not one of 2 to 5")),
            },
            0x95 => drop(self.take(8)?),

            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'(' => self.marks.push(self.stack.len()),

            b'q' => self.memoize_at(step, |m| Ok(usize::from(m.byte()?)))?,
            b'r' => self.memoize_at(step, Machine::length4)?,
            0x94 => self.memoize_at(step, |m| Ok(m.memo.len()))?,
            b'h' => self.recall(|m| Ok(usize::from(m.byte()?)))?,
            b'j' => self.recall(Machine::length4)?,

            b']' | 0x8f => self.make(Object::List(Vec::new())),
            b'}' => self.make(Object::Dict(Vec::new())),
            b')' => self.make(Object::Tuple(Vec::new())),
            0x85..=0x87 => {
                let values = self.pop_many(usize::from(opcode - 0x84))?;
                self.make(Object::Tuple(values));
            }
            b't' => {
                let values = self.pop_mark()?;
                self.make(Object::Tuple(values));
            }
            b'l' | 0x91 => {
                let values = self.pop_mark()?;
                self.make(Object::List(values));
            }
            b'd' => {
                let values = self.pop_mark()?;
                self.make(Object::Dict(pairs(&values)?.collect()));
            }
            b'a' => {
                let values = self.pop_many(1)?;
                self.append(&values)?;
            }
            b'e' | 0x90 => {
                let values = self.pop_mark()?;
                self.append(&values)?;
            }
            b's' => {
                let values = self.pop_many(2)?;
                self.set_items(&values)?;
            }
            b'u' => {
                let values = self.pop_mark()?;
                self.set_items(&values)?;
            }

            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.make(Object::Global { module, name });
            }
            0x93 => match self.pop_many(2)?[..] {
                [Value::Str(module), Value::Str(name)] => {
                    self.make(Object::Global { module, name })
                }
                _ => return Err(reason!("the name of a class is not a string")),
            },
            b'Q' => {
                let id = self.pop()?;
                self.make(Object::Persistent(id));
            }
            b'R' | 0x81 => {
                let values = self.pop_many(2)?;
                self.call(values[0], values[1], Vec::new());
            }
            0x92 => {
                let values = self.pop_many(3)?;
                self.call(values[0], values[1], vec![values[2]]);
            }
            b'b' => self.build()?,
            _ => return Err(reason!("not an opcode that a checkpoint needs")),
        }
        Ok(())
    }

    /// The value of an opcode that pushes a constant; none for the other opcodes.
    fn literal(&mut self, opcode: u8) -> Result<Option<Value<'a>>, Reason> {
        Ok(Some(match opcode {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Value::Int(self.byte()?.into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            b'G' => Value::Float(f64::from_be_bytes(self.array()?)),
            0x8a => self.counted(|m| Ok(usize::from(m.byte()?))).map(long)?,
            0x8b => self.counted(Machine::length4).map(long)?,
            // Python 2 wrote its strings, names among them, with the opcodes of bytes.
            b'U' | 0x8c => self.counted(|m| Ok(usize::from(m.byte()?))).map(text)?,
            b'T' | b'X' => self.counted(Machine::length4).map(text)?,
            0x8d => self.counted(Machine::length8).map(text)?,
            b'C' => self.counted(|m| Ok(usize::from(m.byte()?))).map(Value::Bytes)?,
            b'B' => self.counted(Machine::length4).map(Value::Bytes)?,
            0x8e | 0x96 => self.counted(Machine::length8).map(Value::Bytes)?,
            _ => return Ok(None),
        }))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Reason> {
        let rest = &self.bytes[self.position..];
        let taken = rest.get(..length).ok_or_else(|| {
            reason!("the pickle ends early: {length} bytes wanted, {} left", rest.len())
        })?;
        self.position += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, Reason> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn length4(&mut self) -> Result<usize, Reason> {
        let length = u32::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| reason!("length {length} is too large"))
    }

    fn length8(&mut self) -> Result<usize, Reason> {
        let length = u64::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| reason!("length {length} is too large"))
    }

    fn counted(
        &mut self,
        length: impl FnOnce(&mut Self) -> Result<usize, Reason>,
    ) -> Result<&'a [u8], Reason> {
        let length = length(self)?;
        self.take(length)
    }

    fn line(&mut self) -> Result<&'a str, Reason> {
        let rest = &self.bytes[self.position..];
        let rest = &rest[..rest.len().min(MAX_STRING)];
        let length = rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(length.ok_or_else(|| reason!("the name of a class has no end"))?)?;
        self.position += 1;
        std::str::from_utf8(line).map_err(|_| reason!("the name of a class is not UTF-8"))
    }

    /// Height of the stack below which nothing may be popped.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Value<'a>, Reason> {
        let top = self.stack[self.floor()..].last();
        top.copied().ok_or_else(|| reason!("the stack of the pickle is empty"))
    }

    fn pop(&mut self) -> Result<Value<'a>, Reason> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value<'a>>, Reason> {
        if self.stack.len() - self.floor() < count {
            return Err(reason!("the stack of the pickle holds fewer than {count} values"));
        }
        Ok(self.stack.drain(self.stack.len() - count..).collect())
    }

    fn pop_mark(&mut self) -> Result<Vec<Value<'a>>, Reason> {
        let mark =
            self.marks.pop().ok_or_else(|| reason!("the stack of the pickle has no mark"))?;
        Ok(self.stack.drain(mark..).collect())
    }

    fn make(&mut self, object: Object<'a>) {
        // Steps are fewer than 2^32, and each makes one object at most.
        self.stack.push(Value::Object(ObjectId(self.objects.len() as u32)));
        self.objects.push(object);
    }

    fn call(&mut self, callable: Value<'a>, arguments: Value<'a>, elements: Vec<Value<'a>>) {
        let (state, items) = (Value::None, Vec::new());
        self.make(Object::Call(Box::new(Call { callable, arguments, state, elements, items })));
    }

    fn memoize_at(
        &mut self,
        step: usize,
        slot: impl FnOnce(&mut Self) -> Result<usize, Reason>,
    ) -> Result<(), Reason> {
        let slot = slot(self)?;
        // Honest pickles number their memo from 0 without gaps.
        if slot > step {
            return Err(reason!("memo slot {slot} after {step} steps"));
        }
        if slot >= self.memo.len() {
            self.memo.resize(slot + 1, None);
        }
        self.memo[slot] = Some(self.top()?);
        Ok(())
    }

    fn recall(
        &mut self,
        slot: impl FnOnce(&mut Self) -> Result<usize, Reason>,
    ) -> Result<(), Reason> {
        let slot = slot(self)?;
        let value = self.memo.get(slot).copied().flatten();
        self.stack.push(value.ok_or_else(|| reason!("memo slot {slot} is empty"))?);
        Ok(())
    }

    fn top_object(&mut self) -> Result<&mut Object<'a>, Reason> {
        match self.top()? {
            Value::Object(ObjectId(id)) => Ok(&mut self.objects[id as usize]),
            _ => Err(reason!("a plain value is used as a container")),
        }
    }

    fn append(&mut self, values: &[Value<'a>]) -> Result<(), Reason> {
        match self.top_object()? {
            Object::List(elements) => elements.extend(values),
            Object::Call(call) => call.elements.extend(values),
            _ => return Err(reason!("something is appended to what is not a list")),
        }
        Ok(())
    }

    fn set_items(&mut self, values: &[Value<'a>]) -> Result<(), Reason> {
        let pairs = pairs(values)?;
        match self.top_object()? {
            Object::Dict(items) => items.extend(pairs),
            Object::Call(call) => call.items.extend(pairs),
            _ => return Err(reason!("a key is assigned in what is not a dict")),
        }
        Ok(())
    }

    fn build(&mut self) -> Result<(), Reason> {
        let state = self.pop()?;
        match self.top_object()? {
            Object::Call(call) => call.state = state,
            _ => return Err(reason!("attributes are set on what is not an object")),
        }
        Ok(())
    }
}

/// Keys and values that stand in turn.
fn pairs<'s, 'a>(
    values: &'s [Value<'a>],
) -> Result<impl Iterator<Item = (Value<'a>, Value<'a>)> + 's, Reason> {
    match values.as_chunks::<2>() {
        (pairs, []) => Ok(pairs.iter().map(|&[key, value]| (key, value))),
        _ => Err(reason!("a key has no value")),
    }
}

fn text(bytes: &[u8]) -> Value<'_> {
    // Long strings are not even looked at, they may be whole files.
    match (bytes.len() <= MAX_STRING).then(|| std::str::from_utf8(bytes)) {
        Some(Ok(text)) => Value::Str(text),
        _ => Value::Bytes(bytes),
    }
}

fn long(bytes: &[u8]) -> Value<'_> {
    if bytes.len() > 8 {
        return Value::Long(bytes);
    }
    let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
    let mut extended = [sign; 8];
    extended[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(extended))
}
