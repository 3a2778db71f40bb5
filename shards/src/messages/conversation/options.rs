//! SET_CONNECTION_OPT on both sides: the greeting, and what the peer sets.
//!
//! In:    the peer's options, and the answers to ours.
//! Out:   answers; the peer's standing.
//! Holds: a network that differs in anything is answered by NACK, and both sides end the session: the one because it sent
//!        the NACK, the other because it received it.
//!
//! spec: p2p/connection-options

use dunlin_codec::args::{Ack, Nack, Recent, Request, SetOption, Setting};
use dunlin_codec::bytes::Writer;
use dunlin_codec::error::NoRoom;
use dunlin_codec::message::{Operation, SignedMessageId};
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::transmission::Compression;

use super::fact::{Asked, Fact};
use super::outbox::Words;
use super::{Bench, Conversation, GREETING_TIMEOUT, written};
use crate::event::Ticket;
use crate::outcome::{AskError, Farewell, Outcome};

impl Conversation {
    /// The first words: our network, then each method that we read, then the one that we would rather.
    pub(super) fn greet(&mut self, bench: &mut Bench) {
        let network = encoded(|out| Setting::Subnet(bench.terms.subnet()).write(out));
        self.set_option(bench, None, (2, &network)).expect("nothing was said before");
        let (reads, prefers) = (bench.terms.reads, bench.terms.prefers);
        for method in reads.iter() {
            self.offer(bench, Setting::Offered(method));
        }
        if let Some(method) = prefers.filter(|method| reads.contains(*method)) {
            self.offer(bench, Setting::Preferred(method));
        }
    }

    fn offer(&mut self, bench: &mut Bench, setting: Setting<'_>) {
        let bytes = encoded(|out| setting.write(out));
        self.set_option(bench, None, (setting.option(), &bytes)).expect("a greeting has few words");
    }

    /// Asks that this session carry broadcasts, or carry them no more; granted, it does.
    ///
    /// # Errors
    /// `AskError`: nothing was asked.
    pub fn ask_link(&mut self, bench: &mut Bench, ticket: Ticket, is_link: bool) -> Result<(), AskError> {
        let bytes = encoded(|out| Setting::Link(is_link).write(out));
        self.set_option(bench, Some(ticket), (3, &bytes))
    }

    fn set_option(
        &mut self,
        bench: &mut Bench,
        ticket: Option<Ticket>,
        (option, bytes): (u64, &[u8]),
    ) -> Result<(), AskError> {
        let setting = Encoded::parse(bytes).expect("it was just written");
        let request = Request::SetConnectionOption(SetOption { option, setting });
        self.ask_as(bench, ticket, &request, GREETING_TIMEOUT)
    }

    /// The peer sets an option.
    pub(super) fn on_option(&mut self, bench: &mut Bench, request: u64, option: SetOption<'_>) {
        if !self.has_greeted && option.option != 2 {
            return self.echo(bench, request, option, false);
        }
        let is_granted = match option.meaning() {
            Some(Setting::Subnet(subnet)) if subnet == bench.terms.subnet() => {
                self.note_greeting(true, self.is_greeted);
                true
            }
            // A subnet that cannot even be read is another one too.
            Some(Setting::Subnet(_)) | None if option.option == 2 => {
                self.echo(bench, request, option, false);
                return self.part(Farewell::OTHER_NETWORK);
            }
            Some(Setting::Offered(method)) => {
                self.peer_reads = self.peer_reads.with(method);
                true
            }
            Some(Setting::Preferred(method)) if self.peer_reads.contains(method) => {
                self.peer_prefers = Some(method);
                true
            }
            Some(Setting::Link(is_link)) => return self.on_asked(bench, request, Asked::Link(is_link)),
            Some(Setting::Recent(recent)) if self.is_link || self.is_link_wanted => {
                return self.answer_recent(bench, request, &recent);
            }
            Some(Setting::Preferred(_) | Setting::Subnet(_) | Setting::Recent(_)) | None => false,
        };
        self.echo(bench, request, option, is_granted);
    }

    /// Tells the other end of a link what was said to everybody of late: it answers with what it lacks.
    pub fn tell_recent(&mut self, bench: &mut Bench, list: &[(SignedMessageId, u64)]) {
        let bytes = encoded(|out| Recent::write_new(out, list));
        // Where there is no room for a question, the links that there are have still to take what was said before.
        let _ = self.set_option(bench, None, (4, &bytes));
    }

    /// Those that were not verified here, and are not from before this node was there.
    // spec: p2p/recent
    fn answer_recent(&mut self, bench: &mut Bench, request: u64, recent: &Recent<'_>) {
        let is_lacking =
            |(id, time_ms): &(SignedMessageId, u64)| *time_ms >= bench.wants_since.0 && !bench.seen.has(id);
        let wanted: Vec<(SignedMessageId, u64)> = recent.iter().filter(is_lacking).collect();
        let bytes = encoded(|out| Recent::write_new(out, &wanted));
        let setting = Encoded::parse(&bytes).expect("it was just written");
        self.echo(bench, request, SetOption { option: 4, setting }, true);
    }

    /// Answers with the option as it came.
    fn echo(&mut self, bench: &mut Bench, request: u64, option: SetOption<'_>, is_granted: bool) {
        let write = |out: &mut Writer<'_>| {
            if is_granted {
                Ack::SetConnectionOption(option).write(out)
            } else {
                Nack::SetConnectionOption(option).write(out)
            }
        };
        let answer = if is_granted { Operation::Ack } else { Operation::Nack };
        self.answer(bench, answer, request, (Words::Own, write));
    }

    /// Answers with an option that was kept for somebody to decide.
    pub(super) fn answer_option(
        &mut self,
        bench: &mut Bench,
        request: u64,
        setting: &Setting<'_>,
        is_granted: bool,
    ) {
        let bytes = encoded(|out| setting.write(out));
        let value = Encoded::parse(&bytes).expect("it was just written");
        self.echo(bench, request, SetOption { option: setting.option(), setting: value }, is_granted);
    }

    /// What the peer said to an option of ours.
    pub(super) fn on_option_answered(&mut self, option: SetOption<'_>, is_granted: bool) {
        self.is_link_wanted &= option.option != 3;
        match (option.meaning(), is_granted) {
            (Some(Setting::Subnet(_)), true) => self.note_greeting(self.has_greeted, true),
            (_, false) if option.option == 2 => self.part(Farewell::OTHER_NETWORK),
            (Some(Setting::Link(is_link)), true) => self.is_link = is_link,
            (Some(Setting::Recent(wanted)), true) if wanted.iter().next().is_some() => {
                self.facts.push(Fact::Wanted(wanted.iter().map(|(id, _)| id).collect()));
            }
            // A method that the peer cannot write: it writes another, or none.
            _ => {}
        }
    }

    fn note_greeting(&mut self, has_greeted: bool, is_greeted: bool) {
        let was_met = self.is_met();
        (self.has_greeted, self.is_greeted) = (has_greeted, is_greeted);
        if self.is_met() && !was_met {
            self.facts.push(Fact::Met);
        }
    }

    /// Our network's name was not answered in time, or by nonsense: whoever it is, it does not talk.
    pub(super) fn on_greeting_failed(&mut self, outcome: &Outcome) {
        if *outcome != Outcome::Over && !self.is_greeted {
            self.part(Farewell::NO_GREETING);
        }
    }

    /// What the peer would have us write.
    #[must_use]
    pub fn peer_prefers(&self) -> Option<Compression> {
        self.peer_prefers
    }
}

/// A setting's bytes.
fn encoded(write: impl Fn(&mut Writer<'_>) -> Result<(), NoRoom>) -> Box<[u8]> {
    let mut room = Vec::new();
    written(&mut room, write).expect("a setting is short").into()
}
