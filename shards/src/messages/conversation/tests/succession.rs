//! Sessions that become one.

use super::*;

/// Two sessions with one peer become one: what was asked on the older is answered on the newer, by both sides.
/// spec: p2p/succession
#[test]
fn questions_go_on_in_the_session_that_carries_on() {
    let mut older = End::met(1);
    let mut newer = End::met(1);
    newer.bench.last_request = 100;
    older.talk.ask(&mut older.bench, Ticket(4), &Request::Ping, SECOND).unwrap();
    let request = older.said()[0].1;
    older.hear(&[direct(Operation::Custom, 9, &text("what"))]);
    older.said();
    newer.talk.on_succeeded(&mut newer.bench, &mut older.talk);
    let ack = bytes_of(|out| Ack::Plain(Operation::Ping).write(out));
    newer.hear(&[direct(Operation::Ack, request, &ack)]);
    newer.talk.reply(&mut newer.bench, 9, Reply::Ack(Encoded::NIL));
    let said = newer.said();
    assert_eq!(newer.facts, [Fact::Answered { ticket: Ticket(4), outcome: Outcome::Ack(ack.into()) }]);
    assert_eq!((said.len(), said[0].0, said[0].1), (1, Operation::Ack, 9));
    older.talk.end();
    older.said();
    assert!(!older.facts.iter().any(|fact| matches!(fact, Fact::Answered { .. })), "nothing is left there");
}

/// The peer goes over to the other session first, and answers there before we have done the same.
/// spec: p2p/succession
#[test]
fn an_answer_may_come_before_its_question() {
    let mut older = End::met(1);
    let mut newer = End::met(1);
    newer.bench.last_request = 100;
    older.talk.ask(&mut older.bench, Ticket(4), &Request::Ping, SECOND).unwrap();
    let request = older.said()[0].1;
    let ack = bytes_of(|out| Ack::Plain(Operation::Ping).write(out));
    newer.hear(&[direct(Operation::Ack, request, &ack)]);
    newer.said();
    assert!(newer.facts.is_empty(), "nothing was asked there");
    newer.talk.on_succeeded(&mut newer.bench, &mut older.talk);
    newer.said();
    assert_eq!(newer.facts, [Fact::Answered { ticket: Ticket(4), outcome: Outcome::Ack(ack.into()) }]);
    assert_eq!(newer.talk.open_count(), 0);
}
