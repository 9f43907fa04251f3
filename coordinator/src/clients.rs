//! Which pipeline may request what, by the operator's configuration. Nodes decide what is signed; this
//! reserves the urgent lane, and the room kept free for it, for those who need it.

use rutli_release::{Class, Product, Requester};
use serde::Deserialize;

use crate::{
    error::{Error, Result},
    limits,
};

/// `[[client]]`: what a pipeline may request. A name may have several entries.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// The name in its certificate: `rutli:pipeline:NAME`.
    pub name: Requester,
    /// Classes of releases.
    pub classes: Vec<Class>,
    /// Products. Absent: all.
    #[serde(default)]
    pub products: Option<Vec<Product>>,
}

/// All entries. A name without an entry may request product builds, of every product.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Clients(pub Vec<Client>);

impl Clients {
    /// Checks what types do not.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.0.len() > limits::MAX_CLIENTS {
            return Err(format!(
                "there are {} [[client]] entries: give at most {}",
                self.0.len(),
                limits::MAX_CLIENTS
            ));
        }
        for Client { name, classes, products } in &self.0 {
            let empty = if classes.is_empty() {
                "classes"
            } else if products.as_ref().is_some_and(Vec::is_empty) {
                "products"
            } else {
                continue;
            };
            return Err(format!("client {name}: {empty} is empty: name at least one, or remove the entry"));
        }
        Ok(())
    }

    /// Whether a pipeline may ask for this.
    ///
    /// # Errors
    /// [`Error::NotListed`]
    pub fn may_ask(&self, requester: &Requester, class: Class, product: &Product) -> Result<()> {
        let mut entries = self.0.iter().filter(|entry| entry.name == *requester).peekable();
        let listed = match entries.peek() {
            None => class == Class::ProductBuild,
            Some(_) => entries.any(|entry| {
                let of_product = entry.products.as_ref().is_none_or(|products| products.contains(product));
                entry.classes.contains(&class) && of_product
            }),
        };
        if listed {
            return Ok(());
        }
        let (requester, product) = (requester.to_string(), product.to_string());
        Err(Error::NotListed { requester, class, product })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_say_who_may_ask_for_what() {
        let clients: Clients = toml::Value::try_from(vec![
            toml::toml! { name = "av" classes = ["av-database"] products = ["avdb"] },
            toml::toml! { name = "both" classes = ["av-database", "product-build"] },
            toml::toml! { name = "av" classes = ["product-build"] products = ["suite"] },
        ])
        .unwrap()
        .try_into()
        .unwrap();
        clients.check().unwrap();
        let may = |name: &str, class, product: &str| {
            clients.may_ask(&Requester::new(name).unwrap(), class, &Product::new(product).unwrap()).is_ok()
        };
        assert!(may("av", Class::AvDatabase, "avdb"));
        assert!(!may("av", Class::AvDatabase, "suite"));
        assert!(may("av", Class::ProductBuild, "suite"));
        assert!(!may("av", Class::ProductBuild, "avdb"));
        assert!(may("both", Class::AvDatabase, "suite"));
        // Without an entry: builds only.
        assert!(may("ci", Class::ProductBuild, "suite"));
        let refused = clients.may_ask(
            &Requester::new("ci").unwrap(),
            Class::AvDatabase,
            &Product::new("avdb").unwrap(),
        );
        assert_eq!(
            refused.unwrap_err().to_string(),
            "no [[client]] entry in coordinator.toml lets \"ci\" ask for av-database releases of \"avdb\": have the \
             operator add name = \"ci\", classes = [\"av-database\"], products = [\"avdb\"]"
        );
    }
}
