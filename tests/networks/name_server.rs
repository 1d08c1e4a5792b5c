//! A name server of the test, a fake: it sends the answers that no real one can be made to send.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};

use crate::network::IPV4;

/// A question: the name in lower case, and its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Question {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) is_tcp: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    A,
    Aaaa,
}

/// The answer to a question.
#[derive(Clone)]
pub(crate) enum Answer {
    /// These addresses of the kind that is asked for.
    Addresses(&'static [&'static str]),
    /// An error (RFC 1035 section 4.1.1, RCODE).
    Error(u8),
    /// A set TC bit: the client has to ask by TCP.
    Truncated,
    /// No answer at all.
    Silence,
}

pub(crate) const SERVFAIL: Answer = Answer::Error(2);
pub(crate) const NXDOMAIN: Answer = Answer::Error(3);
pub(crate) const NOTIMP: Answer = Answer::Error(4);
pub(crate) const REFUSED: Answer = Answer::Error(5);

/// A name server on the hub's machine. Its threads end with the test's process.
pub(crate) struct NameServer {
    seen: Arc<Mutex<BTreeSet<Question>>>,
}

type Rule = fn(&Question) -> Answer;

impl NameServer {
    pub(crate) fn start(rule: Rule) -> Self {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let address = (IPV4.hub, 53);
        let udp = UdpSocket::bind(address).unwrap();
        let tcp = TcpListener::bind(address).unwrap();
        let log = Arc::clone(&seen);
        std::thread::spawn(move || serve_udp(&udp, rule, &log));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                serve_tcp(stream.unwrap(), rule, &log);
            }
        });
        Self { seen }
    }

    /// Returns the questions so far, each once.
    pub(crate) fn questions(&self) -> Vec<Question> {
        self.seen.lock().unwrap().iter().cloned().collect()
    }
}

fn serve_udp(socket: &UdpSocket, rule: Rule, log: &Mutex<BTreeSet<Question>>) {
    let mut query = [0; 512];
    loop {
        let (length, client): (usize, SocketAddr) = socket.recv_from(&mut query).unwrap();
        if let Some(response) = respond(&query[..length], false, rule, log) {
            socket.send_to(&response, client).unwrap();
        }
    }
}

fn serve_tcp(mut stream: TcpStream, rule: Rule, log: &Mutex<BTreeSet<Question>>) {
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query).unwrap();
        if let Some(response) = respond(&query, true, rule, log) {
            let length = u16::try_from(response.len()).unwrap().to_be_bytes();
            stream
                .write_all(&[&length[..], &response].concat())
                .unwrap();
        }
    }
}

/// Returns the message (RFC 1035 section 4) for a query with one question.
fn respond(
    query: &[u8],
    is_tcp: bool,
    rule: Rule,
    log: &Mutex<BTreeSet<Question>>,
) -> Option<Vec<u8>> {
    let (name, end) = name(query);
    let kind = match query[end..end + 2] {
        [0, 1] => Kind::A,
        [0, 28] => Kind::Aaaa,
        _ => return None,
    };
    let question = Question { name, kind, is_tcp };
    let answer = rule(&question);
    log.lock().unwrap().insert(question);
    let (code, truncated, addresses) = match answer {
        Answer::Addresses(addresses) => (0, 0, addresses),
        Answer::Error(code) => (code, 0, &[][..]),
        Answer::Truncated => (0, 2, &[][..]),
        Answer::Silence => return None,
    };
    let addresses: Vec<IpAddr> = addresses
        .iter()
        .map(|address| address.parse().unwrap())
        .filter(|address: &IpAddr| address.is_ipv6() == (kind == Kind::Aaaa))
        .collect();
    let mut message = query[..2].to_vec();
    // A response with recursion, to one question.
    message.extend([0x81 | truncated, 0x80 | code, 0, 1]);
    message.extend(u16::try_from(addresses.len()).unwrap().to_be_bytes());
    message.extend([0; 4]);
    message.extend(&query[12..end + 4]);
    for address in addresses {
        let data = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        // The name of the question, its kind, class IN, 30 seconds.
        message.extend([0xc0, 12]);
        message.extend(&query[end..end + 4]);
        message.extend([0, 0, 0, 30, 0, u8::try_from(data.len()).unwrap()]);
        message.extend(data);
    }
    Some(message)
}

/// Reads the name of the question; returns the place after it, too.
fn name(query: &[u8]) -> (String, usize) {
    let (mut labels, mut place) = (Vec::new(), 12);
    while query[place] != 0 {
        let end = place + 1 + usize::from(query[place]);
        labels.push(String::from_utf8_lossy(&query[place + 1..end]).to_lowercase());
        place = end;
    }
    (labels.join("."), place + 1)
}
