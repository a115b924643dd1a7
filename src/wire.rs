//! What crosses between JavaScript and the addon as numbers: the one definition of records, kinds and
//! strategies. JavaScript reads it through [`wire`], in lib/native/wire.js.

use napi_derive::napi;

use fencelock_core::lease::Strategy;
use fencelock_core::manager::Topic;

/// Defines a record of doubles by its fields, and the object that gives JavaScript the place of each.
macro_rules! record {
    (
        $(#[$doc:meta])*
        $record:ident $direction:ident, places in $places:ident { $($(#[$field_doc:meta])* $field:ident,)+ }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $record { $($(#[$field_doc])* pub(crate) $field: f64,)+ }

        impl $record {
            /// The number of doubles in a record.
            pub(crate) const STRIDE: usize = [$(stringify!($field)),+].len();

            record! { @$direction $($field)+ }
        }

        /// The places of the fields of a record, which src/wire.rs describes.
        #[napi(object, object_from_js = false)]
        pub struct $places {
            /// The number of doubles in a record.
            pub stride: u32,
            $(pub $field: u32,)+
        }

        impl $places {
            fn new() -> Self {
                let mut places = 0..;
                let mut next = || places.next().unwrap_or_default();
                Self { stride: $record::STRIDE as u32, $($field: next(),)+ }
            }
        }
    };
    (@from_javascript $($field:ident)+) => {
        pub(crate) const fn read(&[$($field),+]: &[f64; Self::STRIDE]) -> Self {
            Self { $($field),+ }
        }
    };
    (@to_javascript $($field:ident)+) => {
        pub(crate) const fn write(self) -> [f64; Self::STRIDE] {
            [$(self.$field),+]
        }
    };
}

record! {
    /// An acquire or a release.
    Call from_javascript, places in CallPlaces {
        /// The slot of the promise that waits for it.
        slot,
        /// The number of its strategy.
        strategy,
        /// The lease to release; 0 for an acquire. A release has no further fields.
        lease,
        /// How many of the names that go with the records are its resources.
        names,
        /// The lease's TTL, in milliseconds.
        ttl_ms,
        /// For how long others are kept out at least, in milliseconds.
        min_hold_ms,
        /// The token must be higher.
        min_token,
        /// How many acknowledgements are required.
        acks,
        /// How long to wait for them, in milliseconds.
        ack_timeout_ms,
        /// 1 if they count only from disk, else 0.
        fsync,
        /// How long to wait for the lock, in milliseconds; may be infinite.
        wait_ms,
        /// 1 to wait in a queue across processes, else 0.
        fair,
        /// 1 if the lease is renewed, else 0.
        renewed,
        /// For how long it is renewed, in milliseconds; may be infinite.
        max_hold_ms,
        /// For how long the event loop may be blocked meanwhile, in milliseconds; may be infinite.
        max_stall_ms,
    }
}

record! {
    /// A lease. Doubles hold all its numbers exactly.
    Grant to_javascript, places in GrantPlaces {
        /// The number of the lease.
        lease,
        /// The fencing token.
        token,
        /// How many replicas acknowledged it; -1 if none were required.
        received,
        /// The first 12 hexadecimal digits of the owner. Its text is made when it is read, which is rare.
        owner_high,
        /// The next 12 digits.
        owner_middle,
        /// The last 8 digits.
        owner_low,
    }
}

/// The outcome of a call, or the end of a watched lease.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Completion {
    pub(crate) slot: f64,
    pub(crate) kind: u32,
    pub(crate) numbers: [f64; Grant::STRIDE],
}

impl Completion {
    /// The number of doubles in a record.
    pub(crate) const STRIDE: usize = NUMBERS + Grant::STRIDE;

    pub(crate) fn write(self, record: &mut [f64; Self::STRIDE]) {
        record[SLOT] = self.slot;
        record[KIND_PLACE] = f64::from(self.kind);
        record[NUMBERS..].copy_from_slice(&self.numbers);
    }
}

const SLOT: usize = 0;
const KIND_PLACE: usize = 1;
const NUMBERS: usize = 2;

/// The outcome of a call, or the end of a watched lease.
#[napi(object, object_from_js = false)]
pub struct CompletionPlaces {
    /// The number of doubles in a record.
    pub stride: u32,
    /// The slot of the call, or the lease that ends.
    pub slot: u32,
    /// One of [`Kinds`].
    pub kind: u32,
    /// Where the numbers begin: a grant, or one value, and for [`Kinds::busy`] a second one.
    pub numbers: u32,
}

/// The kinds of completions.
#[napi(object, object_from_js = false)]
pub struct Kinds {
    /// A lease was granted.
    pub granted: u32,
    /// A lease was granted, but had ended before JavaScript came to take it.
    pub late: u32,
    /// Another owner holds the lock. The value is how long, in milliseconds, or -1 if that is unknown; the
    /// second one is the index of the resource that is held.
    pub busy: u32,
    /// A number, or 0 or 1.
    pub value: u32,
    /// An object; the value is its index among the details.
    pub detail: u32,
    /// There is no such object.
    pub nothing: u32,
    /// A failure; the value is its index among the details.
    pub failed: u32,
    /// A watched lease ends; the value is the index of the message.
    pub lease_ends: u32,
    /// The call in this slot has begun to wait. It is not settled by this.
    pub waits: u32,
    /// No call's: something happened that JavaScript wants to hear of. The value is the index of an event.
    pub event: u32,
    /// No call's: credentials are asked for, of the function with the number in place of the slot. The value
    /// is the number of the question; the second one is the index of what a server said when it refused the
    /// last ones, or -1.
    pub credentials: u32,
    /// No call's: a socket is to be read. The value is its file descriptor; its number is in place of the
    /// slot.
    pub socket: u32,
}

pub(crate) const KIND: Kinds = Kinds {
    granted: 0,
    late: 1,
    busy: 2,
    value: 3,
    detail: 4,
    nothing: 5,
    failed: 6,
    lease_ends: 7,
    credentials: 8,
    waits: 9,
    event: 10,
    socket: 11,
};

macro_rules! number_strategies {
    ($($(#[$doc:meta])* $variant:ident $name:ident $not_configured:literal,)+) => {
        /// The numbers of the strategies, which core/src/lease/strategy.rs describes.
        #[napi(object, object_from_js = false)]
        pub struct StrategyNumbers { $(pub $name: u32,)+ }

        impl StrategyNumbers {
            fn new() -> Self {
                Self { $($name: Strategy::$variant.index() as u32,)+ }
            }
        }
    };
}

fencelock_core::with_strategies!(number_strategies);

/// What JavaScript may want to hear of without a call; bits.
#[napi(object, object_from_js = false)]
pub struct Topics {
    /// Calls that begin to wait.
    pub waits: u32,
    /// Leases that are lost.
    pub losses: u32,
    /// Attempts to renew a lease.
    pub renewals: u32,
    /// Connections that open and end.
    pub connections: u32,
}

/// What crosses as numbers. All places are indexes into a record.
#[napi(object, object_from_js = false)]
pub struct Wire {
    /// An acquire or a release.
    pub call: CallPlaces,
    /// A lease.
    pub grant: GrantPlaces,
    /// The outcome of a call, or the end of a watched lease.
    pub completion: CompletionPlaces,
    /// The kinds of completions.
    pub kind: Kinds,
    /// The numbers of the strategies.
    pub strategy: StrategyNumbers,
    /// What may be observed.
    pub topic: Topics,
}

/// Describes the records, for the JavaScript that writes and reads them.
#[napi(catch_unwind)]
pub fn wire() -> Wire {
    Wire {
        call: CallPlaces::new(),
        grant: GrantPlaces::new(),
        completion: CompletionPlaces {
            stride: Completion::STRIDE as u32,
            slot: SLOT as u32,
            kind: KIND_PLACE as u32,
            numbers: NUMBERS as u32,
        },
        kind: KIND,
        strategy: StrategyNumbers::new(),
        topic: Topics {
            waits: Topic::Waits.bit(),
            losses: Topic::Losses.bit(),
            renewals: Topic::Renewals.bit(),
            connections: Topic::Connections.bit(),
        },
    }
}
