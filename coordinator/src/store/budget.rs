//! Hourly budgets: by how much a party may make store and log grow. Checked in the transaction that would
//! store the request, before anything is stored or logged, and durable with it: a restart gives nobody a new
//! budget.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};

use super::writer::{signed, unsigned};
use crate::{
    config::Limits,
    share::{Full, Held, Limit, Owner},
};

const HOUR_SECONDS: u64 = 3_600;

/// How much may be stored and logged in an hour, for all; shares of it are a name's and an authority's.
#[derive(Clone, Copy, Debug)]
pub struct Hourly {
    requests: Limit,
    bytes: Limit,
}

/// What is to be stored for a party.
#[derive(Clone, Debug)]
pub struct Charge {
    /// Who is charged.
    pub owner: Owner,
    /// Releases and documents.
    pub requests: u64,
    /// By which store and log may grow.
    pub bytes: u64,
    /// Unix seconds.
    pub at: u64,
    /// What there is.
    pub hourly: Hourly,
}

/// What was charged in one hour, by name and authority.
pub(super) struct Spent {
    hour: u64,
    /// Whether nothing was charged in it before.
    is_new: bool,
    by: BTreeMap<(String, String), Sums>,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    requests: u64,
    bytes: u64,
    /// Whether it is to be written.
    changed: bool,
}

impl Hourly {
    /// As configured.
    #[must_use]
    pub fn new(configured: &Limits) -> Self {
        let limit = |what, key, most| Limit { what, key, most, retry: Duration::from_secs(HOUR_SECONDS) };
        let requests = u64::from(configured.max_requests_per_hour);
        Self {
            requests: limit("releases and documents in this hour", "max_requests_per_hour", requests),
            bytes: limit(
                "bytes of store and log in this hour",
                "max_mebibytes_per_hour",
                configured.bytes_per_hour(),
            ),
        }
    }
}

impl Spent {
    /// What was charged in the hour of `at`.
    pub(super) async fn load(connection: &mut SqliteConnection, at: u64) -> sqlx::Result<Self> {
        let hour = at / HOUR_SECONDS;
        let rows = sqlx::query("SELECT name, authority, requests, bytes FROM budgets WHERE hour = $1")
            .bind(signed(hour))
            .fetch_all(connection)
            .await?;
        let is_new = rows.is_empty();
        let by = rows.into_iter().map(|row| {
            let (requests, bytes) = (unsigned(row.try_get(2)?), unsigned(row.try_get(3)?));
            Ok(((row.try_get(0)?, row.try_get(1)?), Sums { requests, bytes, changed: false }))
        });
        Ok(Self { hour, is_new, by: by.collect::<sqlx::Result<_>>()? })
    }

    /// Says whose budget is used up, if one is.
    pub(super) fn check(&self, charge: &Charge) -> Result<(), Full> {
        let Charge { owner, requests, bytes, at, hourly } = charge;
        let rest = Duration::from_secs(HOUR_SECONDS - at % HOUR_SECONDS);
        let check = |limit: Limit, of: fn(&Sums) -> u64, amount| {
            Limit { retry: rest, ..limit }.check(owner, self.held(owner, of), amount)
        };
        check(hourly.requests, |sums| sums.requests, *requests)?;
        check(hourly.bytes, |sums| sums.bytes, *bytes)
    }

    /// Charges the budgets, or says whose budget is used up; then nothing is charged.
    pub(super) fn charge(&mut self, charge: &Charge) -> Result<(), Full> {
        self.check(charge)?;
        let Charge { owner, requests, bytes, .. } = charge;
        let authority = owner.authority().unwrap_or_default().to_owned();
        let sums = self.by.entry((owner.name().to_owned(), authority)).or_default();
        sums.requests = sums.requests.saturating_add(*requests);
        sums.bytes = sums.bytes.saturating_add(*bytes);
        sums.changed = true;
        Ok(())
    }

    fn held(&self, owner: &Owner, of: fn(&Sums) -> u64) -> Held {
        let sum = |of_whom: &dyn Fn(&(String, String)) -> bool| {
            let sums = self.by.iter().filter(|(who, _)| of_whom(who)).map(|(_, sums)| of(sums));
            sums.fold(0, u64::saturating_add)
        };
        Held {
            name: sum(&|(name, by)| name == owner.name() && by == owner.authority().unwrap_or_default()),
            authority: owner.authority().map(|by| sum(&|(_, authority)| authority == by)),
            all: sum(&|_| true),
        }
    }

    /// Makes what was charged durable with the transaction, and forgets earlier hours.
    pub(super) async fn write(self, connection: &mut SqliteConnection) -> sqlx::Result<()> {
        let changed: Vec<_> = self.by.iter().filter(|(_, sums)| sums.changed).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let hour = signed(self.hour);
        let mut query =
            QueryBuilder::<Sqlite>::new("INSERT INTO budgets (hour, name, authority, requests, bytes) ");
        query.push_values(&changed, |mut row, ((name, authority), sums)| {
            row.push_bind(hour)
                .push_bind(name.as_str())
                .push_bind(authority.as_str())
                .push_bind(signed(sums.requests))
                .push_bind(signed(sums.bytes));
        });
        query.push(
            " ON CONFLICT (hour, name, authority) DO UPDATE SET requests = excluded.requests, bytes = excluded.bytes",
        );
        if self.is_new {
            query.push("; DELETE FROM budgets WHERE hour < ").push_bind(hour);
        }
        query.build().execute(connection).await.map(drop)
    }
}
