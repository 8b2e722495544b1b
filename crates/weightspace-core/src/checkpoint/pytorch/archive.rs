//! Files of `torch.save` since PyTorch 1.6: a zip archive with the pickle as `data.pkl` and each
//! storage as a member of its own.

use std::collections::HashMap;

use super::{list, state_dict};
use crate::checkpoint::bytes::Bytes;
use crate::checkpoint::contents::{Contents, Source};
use crate::checkpoint::error::{Reason, reason};
use crate::checkpoint::pickle::Pickle;
use crate::checkpoint::strided::View;
use crate::checkpoint::zip::{Member, members};

const PICKLE: &str = "data.pkl";

/// True for a zip archive with a pickle where `torch.save` puts it.
pub(in super::super) fn matches(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK") && members(bytes).is_ok_and(|members| root_of(&members).is_some())
}

/// The folder of all members, with its slash: the one in which the pickle lies.
fn root_of(members: &[Member]) -> Option<&str> {
    let roots = members.iter().filter_map(|member| member.name.strip_suffix(PICKLE));
    roots.filter(|root| root.is_empty() || root.ends_with('/')).min_by_key(|root| root.len())
}

pub(in super::super) fn open(bytes: Bytes, part: Option<&str>) -> Result<Contents, Reason> {
    let members = members(&bytes)?;
    let root = root_of(&members).ok_or_else(|| reason!("no {PICKLE} in the archive"))?.to_owned();
    let by_name: HashMap<&str, usize> =
        members.iter().enumerate().map(|(i, member)| (member.name.as_str(), i)).collect();
    let within = |name: &str| by_name.get(format!("{root}{name}").as_str()).copied();

    if within("constants.pkl").is_some() {
        return Err(reason!(
            "a TorchScript archive, which holds a program; save `model.state_dict()`"
        ));
    }
    if let Some(order) = within("byteorder")
        && members[order].stored(&bytes)? != b"little"
    {
        return Err(reason!("not written on a little-endian machine"));
    }
    let pickle = within(PICKLE).ok_or_else(|| reason!("no {PICKLE} in the archive"))?;
    let (pickle, _) = Pickle::parse(members[pickle].stored(&bytes)?)?;
    let found = state_dict::find(&pickle, part)?;

    let locate = |key: &str| {
        let storage = within(&format!("data/{key}"))?;
        Some((storage, members[storage].size()))
    };
    let (tensors, places) = list(found.tensors, bytes.len(), locate)?;
    Ok(Contents {
        tensors,
        metadata: found.metadata,
        left_out: found.left_out,
        is_part: found.is_part,
        source: Box::new(Storages { bytes, members, places }),
    })
}

struct Storages {
    bytes: Bytes,
    members: Vec<Member>,
    places: Vec<(usize, View)>,
}

impl Source for Storages {
    fn read(&self, index: usize) -> Result<Vec<u8>, Reason> {
        let (member, view) = &self.places[index];
        view.gather(self.members[*member].stored(&self.bytes)?)
    }
}
