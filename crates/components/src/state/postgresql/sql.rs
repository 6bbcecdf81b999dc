//! The table and the statements.

use std::time::Duration;

use crate::client::postgres::{Layout, Sweep};

/// Whether a row of `state` has ended.
macro_rules! ended {
    ($row:literal) => {
        concat!(
            "coalesce(upper(",
            $row,
            ".layotto_lifetime) <= clock_timestamp() and lower(",
            $row,
            ".layotto_lifetime) = ",
            $row,
            ".updatedate, false)"
        )
    };
}

/// The columns that a write sets, from a row `i` of key, value in base64, and milliseconds to live.
macro_rules! written {
    () => {
        "to_jsonb(i.value), true, case when i.ttl is not null then now() end, case when i.ttl is not null then
           tstzrange(now(), least(now() + i.ttl * interval '1 millisecond', '9999-12-31 23:59:59Z'::timestamptz)) end"
    };
}

/// Puts rows into `state` in the order of their keys, which keeps writers from waiting for each
/// other in a circle.
macro_rules! upsert {
    ($from:literal) => {
        concat!(
            "insert into state as s (key, value, isbinary, updatedate, layotto_lifetime) select i.key, ",
            written!(),
            " from ",
            $from,
            " order by i.key
             on conflict (key) do update set value = excluded.value, isbinary = true, updatedate = now(),
               layotto_lifetime = excluded.layotto_lifetime"
        )
    };
}

/// Takes hold of the rows of the keys `$1`, in their order.
macro_rules! held {
    () => {
        "held as (select s.key from state s where s.key = any($1) order by s.key for update)"
    };
}

pub(super) const LAYOUT: Layout = Layout {
    exists: "select to_regclass('state') is not null and to_regclass('state_layotto_lifetime') is not null
             and exists (select from pg_attribute where attrelid = to_regclass('state')
                         and attname = 'layotto_lifetime' and not attisdropped)",
    statements: &[
        "create table if not exists state (
           key text not null primary key,
           value jsonb not null,
           isbinary boolean not null,
           insertdate timestamp with time zone not null default now(),
           updatedate timestamp with time zone null)",
        "alter table state add column if not exists layotto_lifetime tstzrange",
        "create index if not exists state_layotto_lifetime on state (upper(layotto_lifetime))
         where layotto_lifetime is not null",
    ],
    sweep: Some(Sweep {
        statement: concat!(
            "delete from state where ctid = any(array(select s.ctid from state s
               where s.layotto_lifetime is not null and upper(s.layotto_lifetime) <= now() and ",
            ended!("s"),
            " limit 5000 for update skip locked))"
        ),
        batch: 5000,
        every: Duration::from_secs(60),
    }),
};

/// The items of the keys `$1`.
pub(super) const READ: &str = concat!(
    "select s.key, case when s.isbinary then s.value #>> '{}' else s.value::text end as value, s.isbinary,
       s.xmin::text as etag,
       case when lower(s.layotto_lifetime) = s.updatedate then
         (extract(epoch from upper(s.layotto_lifetime)) * 1000)::bigint end as lifetime_end
     from state s where s.key = any($1) and not ",
    ended!("s")
);

/// Writes the keys `$1` whatever there is.
pub(super) const SET: &str = concat!(
    upsert!("unnest($1::text[], $2::text[], $3::bigint[]) as i (key, value, ttl)"),
    " returning key"
);

/// Writes those of the keys `$1` that have no item.
pub(super) const SET_ABSENT: &str = concat!(
    upsert!("unnest($1::text[], $2::text[], $3::bigint[]) as i (key, value, ttl)"),
    " where ",
    ended!("s"),
    " returning key"
);

/// Writes those of the keys `$1` whose item has the etag of `$4`.
pub(super) const SET_ETAG: &str = concat!(
    "with ",
    held!(),
    " update state as s set (value, isbinary, updatedate, layotto_lifetime) =
       (select w.value, w.isbinary, now(), w.lifetime from (select ",
    written!(),
    ") as w (value, isbinary, set, lifetime))
     from unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) as i (key, value, ttl, etag), held
     where s.key = i.key and held.key = i.key and s.xmin::text = i.etag and not ",
    ended!("s"),
    " returning s.key"
);

/// Removes the keys `$1`.
pub(super) const DELETE: &str = concat!(
    "with ",
    held!(),
    " delete from state s using held where s.key = held.key returning s.key"
);

/// Removes those of the keys `$1` whose item has the etag of `$2`.
pub(super) const DELETE_ETAG: &str = concat!(
    "with ",
    held!(),
    " delete from state s using held, unnest($1::text[], $2::text[]) as i (key, etag)
     where s.key = held.key and s.key = i.key and s.xmin::text = i.etag and not ",
    ended!("s"),
    " returning s.key"
);

/// What `$4` says for a row of the keys `$1`.
macro_rules! needed {
    () => {
        "($4::text[])[array_position($1, s.key)]"
    };
}

/// Writes those of the keys `$1` whose item is as `$4` needs it: null for however it is, empty for
/// absent, else its etag. Tells which were not there.
pub(super) const SET_REQUIRED: &str = concat!(
    upsert!("unnest($1::text[], $2::text[], $3::bigint[]) as i (key, value, ttl)"),
    " where case ",
    needed!(),
    " when '' then ",
    ended!("s"),
    " else ",
    needed!(),
    " is null or (s.xmin::text = ",
    needed!(),
    " and not ",
    ended!("s"),
    ") end
     returning s.key, s.xmax = 0"
);
