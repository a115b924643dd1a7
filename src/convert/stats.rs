//! The counters of a manager, as JavaScript receives them.

use napi_derive::napi;

use fencelock_core::manager;

macro_rules! mirror {
    (
        gauges { $($(#[$gauge_doc:meta])* $gauge:ident,)+ }
        counters { $($(#[$counter_doc:meta])* $counter:ident,)+ }
    ) => {
        /// What a manager has done since it was created; `ManagerStats` in index.d.ts describes the fields.
        #[napi(object, object_from_js = false)]
        pub struct Stats {
            $(pub $gauge: f64,)+
            $(pub $counter: f64,)+
        }

        impl From<manager::Stats> for Stats {
            fn from(stats: manager::Stats) -> Self {
                Self { $($gauge: stats.$gauge as f64,)+ $($counter: stats.$counter as f64,)+ }
            }
        }
    };
}

fencelock_core::with_counters!(mirror);
