//! Seeds by name, asked of a name server that the test runs.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use macula_core::identity::Keypair;
use tokio::net::UdpSocket;

use super::resolved;
use crate::bootstrap::Seed;

/// What the name server knows.
fn records(name: &str, of: RecordType) -> Vec<RData> {
    let srv = |port, target| RData::SRV(SRV::new(1, 1, port, Name::from_ascii(target).unwrap()));
    match (name, of) {
        ("_macula._udp.example.org.", RecordType::SRV) => {
            vec![
                srv(7000, "one.example.org."),
                srv(7001, "two.example.org."),
                srv(9, "no.example.org."),
            ]
        }
        ("one.example.org.", RecordType::A) => vec![RData::A(A(Ipv4Addr::new(192, 0, 2, 1)))],
        ("two.example.org.", RecordType::AAAA) => vec![RData::AAAA(AAAA(Ipv6Addr::LOCALHOST))],
        _ => Vec::new(),
    }
}

/// A name server on a free port.
async fn name_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2_048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let asked = Message::from_vec(&buffer[..len]).unwrap();
            let mut answer = Message::response(asked.metadata.id, OpCode::Query);
            for query in &asked.queries {
                answer.add_query(query.clone());
                let name = query.name().to_ascii();
                for data in records(&name, query.query_type()) {
                    answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
                }
            }
            if answer.answers.is_empty() {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn services_and_hosts_are_asked_of_the_name_server() {
    let server = Some(name_server().await);
    let node = Keypair::from_seed([1; 32]).node_id();
    let seeds: Vec<Seed> = [
        "_macula._udp.example.org",
        "one.example.org:5",
        "192.0.2.9:1",
        "192.0.2.9:1",
        "nobody.example.org:1",
        "_nothing._udp.example.org",
        &format!("{node}@one.example.org:6"),
    ]
    .into_iter()
    .map(|text| text.parse().unwrap())
    .collect();
    let found = resolved(&seeds, server).await;
    let at = |address: &str| address.parse::<SocketAddr>().unwrap();
    let expected = [
        (at("192.0.2.1:5"), None),
        (at("192.0.2.1:6"), Some(node)),
        (at("192.0.2.1:7000"), None),
        (at("192.0.2.9:1"), None),
        (at("[::1]:7001"), None),
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_host_is_asked_of_the_system_if_no_name_server_is_configured() {
    let seeds = ["localhost:7".parse().unwrap()];
    let found = resolved(&seeds, None).await;
    assert!(found.iter().any(|(address, _)| address.ip().is_loopback() && address.port() == 7));
}
