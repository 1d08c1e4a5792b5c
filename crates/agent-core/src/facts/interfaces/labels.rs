//! The interfaces of addresses with labels. getifaddrs(3) returns an address by its label, which may be any
//! text: netlink has the index of the interface too.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;

use nix::net::if_::if_indextoname;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

const REQUEST: u16 = 22; // RTM_GETADDR
const ADDRESS: u16 = 20; // RTM_NEWADDR
const ERROR: u16 = 2; // NLMSG_ERROR
const DONE: u16 = 3; // NLMSG_DONE
const DUMP: u16 = 0x301; // NLM_F_REQUEST | NLM_F_DUMP
const LOCAL: u16 = 2; // IFA_LOCAL
const LABEL: u16 = 3; // IFA_LABEL
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of `struct ifaddrmsg`.
const MESSAGE: usize = 8;

/// An address with its label, and the index of its interface.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Labelled {
    label: Vec<u8>,
    ip: IpAddr,
    index: u32,
}

impl Labelled {
    /// Returns all IPv4 addresses: no other address has a label. Returns `None` if the kernel does not report them.
    pub(super) fn all() -> Option<Vec<Self>> {
        let kind = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
        let route = SockProtocol::NetlinkRoute;
        let socket = socket(AddressFamily::Netlink, kind.0, kind.1, route).ok()?;
        let length = HEADER + MESSAGE;
        let mut request = u32::try_from(length).ok()?.to_ne_bytes().to_vec();
        request.extend(REQUEST.to_ne_bytes());
        request.extend(DUMP.to_ne_bytes());
        request.resize(length, 0);
        request[HEADER] = 2; // AF_INET
        send(socket.as_raw_fd(), &request, MsgFlags::empty()).ok()?;
        let mut all = Vec::new();
        let mut answer = vec![0; 64 * 1024];
        loop {
            let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).ok()?;
            if read(answer.get(..length)?, &mut all)? {
                return Some(all);
            }
        }
    }

    /// Returns the interface of the address `ip` with the label `label`.
    pub(super) fn interface(all: &[Self], label: &str, ip: IpAddr) -> Option<String> {
        let known = all
            .iter()
            .find(|known| known.ip == ip && known.label == label.as_bytes())?;
        let name = if_indextoname(known.index).ok()?;
        name.into_string().ok()
    }
}

/// Reads the messages of one answer. Returns true after the last one.
fn read(mut answer: &[u8], all: &mut Vec<Labelled>) -> Option<bool> {
    while !answer.is_empty() {
        let length = usize::try_from(u32::from_ne_bytes(answer.get(..4)?.try_into().ok()?)).ok()?;
        let message = answer.get(..length).filter(|it| it.len() >= HEADER)?;
        match u16::from_ne_bytes(message[4..6].try_into().ok()?) {
            DONE => return Some(true),
            ERROR => return None,
            ADDRESS => all.extend(address(&message[HEADER..])),
            _ => {}
        }
        answer = answer.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(false)
}

fn address(message: &[u8]) -> Option<Labelled> {
    let index = u32::from_ne_bytes(message.get(4..MESSAGE)?.try_into().ok()?);
    let (mut ip, mut label) = (None, None);
    let mut attributes = &message[MESSAGE..];
    while let Some(header) = attributes.get(..4) {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = attributes.get(4..length)?;
        match u16::from_ne_bytes([header[2], header[3]]) {
            LOCAL => ip = <[u8; 4]>::try_from(value).ok(),
            LABEL => label = Some(value.strip_suffix(&[0]).unwrap_or(value).to_vec()),
            _ => {}
        }
        attributes = attributes
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    Some(Labelled {
        label: label?,
        ip: Ipv4Addr::from(ip?).into(),
        index,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kernel_reports_the_loopback_address_with_its_interface() {
        let all = Labelled::all().unwrap();
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(
            Labelled::interface(&all, "lo", ip).as_deref(),
            Some("lo"),
            "{all:?}"
        );
        assert_eq!(Labelled::interface(&all, "vip", ip), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), length in 0_u32..120) {
            if bytes.len() > 6 {
                bytes[..4].copy_from_slice(&length.to_ne_bytes());
                bytes[4..6].copy_from_slice(&ADDRESS.to_ne_bytes());
            }
            let _ = read(&bytes, &mut Vec::new());
        }
    }
}
