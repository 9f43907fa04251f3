//! The description of a deployment that `rutli init` reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use rutli_evidence::{AttestationKey, Role, Trust};
use rutli_keys::{
    IdentityPublic, KeyName, NodeId, NodeName, OrgName, Purpose,
    ceremony::{KeySpec, NodeSpec, OrganisationSpec, Proposal, ProposalSpec},
};
use rutli_log::{Origin, checkpoint::InvalidLogKey, sigstore::LogUrl};
use rutli_release::{Channel, Class, Product, Requester};
use serde::{Deserialize, Serialize};

use crate::report::Failure;

/// An example description, documented line by line: what `rutli init --example` prints.
pub const EXAMPLE: &str = include_str!("example.toml");

/// Where the log is read when the description does not say: on this machine alone.
const LOG_LISTENS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7412);

/// Who takes part, and what is signed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// Shown in certificates.
    pub name: KeyName,
    /// Where it listens, and under which names.
    pub coordinator: Coordinator,
    /// The transparency log.
    #[serde(default)]
    pub log: Log,
    /// Who signs, and how many of whom must.
    #[serde(rename = "organisation")]
    pub organisations: Vec<Organisation>,
    /// The keys of the first ceremony.
    #[serde(rename = "key", default = "one_release_key")]
    pub keys: Vec<KeySpec>,
    /// Who asks.
    #[serde(default)]
    pub clients: Clients,
    /// Who builds what nodes sign.
    #[serde(rename = "builder", default)]
    pub builders: Vec<Builder>,
    /// What nodes sign.
    #[serde(rename = "allow", default)]
    pub allow: Vec<Allow>,
    /// The first ceremony.
    #[serde(default)]
    pub ceremony: Ceremony,
    /// Days for which certificates are valid.
    #[serde(default = "default_certificate_days")]
    pub certificate_days: u32,
    /// A folder for the nodes' sockets, where the paths below the output folder would be too long. Default: each node's
    /// own folder.
    #[serde(default)]
    pub sockets: Option<PathBuf>,
}

/// The coordinator.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coordinator {
    /// Its name in its certificate.
    #[serde(default = "default_coordinator_name")]
    pub name: Requester,
    /// Address and port.
    pub listen: SocketAddr,
    /// How nodes and clients reach it. Default: `https://` and the address it listens on.
    #[serde(default)]
    pub url: Option<String>,
    /// DNS names and IP addresses for its certificate, the first one is what clients expect there. Default: `localhost`
    /// and the address it listens on.
    #[serde(default)]
    pub names: Vec<String>,
}

/// The transparency log, which the coordinator keeps.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Names it for ever. Default: one that follows from the deployment's name, for a trial.
    pub origin: Option<Origin>,
    /// Address and port, for plain HTTP. Default: port 7412 on this machine alone.
    pub listen: Option<SocketAddr>,
    /// How the world reaches it. Default: `http://` and the address it listens on.
    pub url: Option<LogUrl>,
}

/// An organisation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Organisation {
    /// Its name.
    pub name: OrgName,
    /// How many of its nodes must sign.
    pub threshold: u16,
    /// Names of its nodes.
    pub nodes: Vec<NodeName>,
    /// What its nodes sign, if not what all nodes sign.
    #[serde(default)]
    pub allow: Option<Vec<Allow>>,
}

/// Certificates for those who ask; each name once.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clients {
    /// Ask for releases.
    pub pipelines: Vec<Requester>,
    /// Run the coordinator.
    pub operators: Vec<Requester>,
    /// See everything, and add approvals, refusals and other evidence: one for each organisation, at the least.
    pub custodians: Vec<Requester>,
    /// See everything, change nothing.
    pub auditors: Vec<Requester>,
}

/// A builder, whose key the nodes trust that sign what it builds: see [`super::policy`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Builder {
    /// Its name in policies.
    pub name: String,
    /// Its public key: PEM (SPKI), or a line as in `id_ed25519.pub`.
    pub public_key: String,
}

/// What a node signs at first: becomes a policy of its own, see [`super::policy`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// Of this class.
    pub class: Class,
    /// Of this product.
    pub product: Product,
    /// The [`Builder`] that must attest the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builder: Option<String>,
    /// The `builder.id` in its attestations. It builds this product and no other: that ties the files to the product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builder_id: Option<String>,
    /// Instead of both, for a trial: only the pipeline says that the files are this product.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unattested: bool,
    /// In these channels. Default: in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<Channel>>,
    /// With at most so many files. Default: the limit of all releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_artifacts: Option<u32>,
    /// Also under embargo. Default: no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub embargo: bool,
}

/// The first ceremony.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ceremony {
    /// What people call it.
    pub name: KeyName,
    /// How long the custodians have.
    pub deadline_minutes: u32,
}

/// A certificate to be made for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientRole {
    /// Asks for releases.
    Pipeline,
    /// Runs the coordinator.
    Operator,
    /// Approves and refuses.
    Custodian,
    /// Sees everything.
    Auditor,
}

impl Deployment {
    /// Reads and checks a description.
    ///
    /// # Errors
    /// Exit code 2, with the place in the text.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |problem: String| {
            Failure::usage(format!("the deployment's description is wrong: {problem}"))
                .help("`rutli init --example` prints one; `rutli help deployment` explains it")
        };
        let deployment: Self =
            toml::from_str(text).map_err(|error| wrong(error.to_string().trim().to_owned()))?;
        deployment.check().map_err(wrong)?;
        Ok(deployment)
    }

    /// How nodes and clients reach the coordinator.
    #[must_use]
    pub fn url(&self) -> String {
        self.coordinator.url.clone().unwrap_or_else(|| format!("https://{}", self.coordinator.listen))
    }

    /// Names for the coordinator's certificate; the first is what clients expect.
    #[must_use]
    pub fn server_names(&self) -> Vec<String> {
        if self.coordinator.names.is_empty() {
            return vec!["localhost".to_owned(), self.coordinator.listen.ip().to_string()];
        }
        self.coordinator.names.clone()
    }

    /// The log's name.
    ///
    /// # Errors
    /// Exit code 2: never for a deployment that was read.
    pub fn log_origin(&self) -> Result<Origin, Failure> {
        match &self.log.origin {
            Some(origin) => Ok(origin.clone()),
            // `.example` belongs to nobody (RFC 2606), so that a trial's log is not taken for anybody's.
            None => Origin::new(format!("{}.log.example/1", self.name))
                .map_err(|error| Failure::usage(error.to_string())),
        }
    }

    /// Where the log is read.
    #[must_use]
    pub fn log_listen(&self) -> SocketAddr {
        self.log.listen.unwrap_or(LOG_LISTENS)
    }

    /// How the world reads it.
    ///
    /// # Errors
    /// Exit code 2: never for a deployment that was read.
    pub fn log_url(&self) -> Result<LogUrl, Failure> {
        let url = self.log.url.clone();
        url.map_or_else(|| format!("http://{}", self.log_listen()).parse(), Ok)
            .map_err(|error: InvalidLogKey| Failure::usage(error.to_string()))
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = (&Organisation, NodeId)> {
        self.organisations
            .iter()
            .flat_map(|organisation| organisation.node_ids().map(move |id| (organisation, id)))
    }

    /// All clients.
    pub fn clients(&self) -> impl Iterator<Item = (ClientRole, &Requester)> {
        let of = |role: ClientRole| move |name| (role, name);
        self.clients
            .pipelines
            .iter()
            .map(of(ClientRole::Pipeline))
            .chain(self.clients.operators.iter().map(of(ClientRole::Operator)))
            .chain(self.clients.custodians.iter().map(of(ClientRole::Custodian)))
            .chain(self.clients.auditors.iter().map(of(ClientRole::Auditor)))
    }

    /// What a node of an organisation signs.
    #[must_use]
    pub fn allow_of<'a>(&'a self, organisation: &'a Organisation) -> &'a [Allow] {
        organisation.allow.as_deref().unwrap_or(&self.allow)
    }

    /// Class and product of all that nodes sign without an attestation of the build.
    #[must_use]
    pub fn unattested(&self) -> BTreeSet<String> {
        let allowed = self.organisations.iter().flat_map(|organisation| self.allow_of(organisation));
        let unattested = allowed.filter(|allow| allow.unattested);
        unattested.map(|Allow { class, product, .. }| format!("{class} {product}")).collect()
    }

    /// The proposal of the first ceremony, as a custodian hands it to the own node.
    #[must_use]
    pub fn proposal(&self, identity_of: impl Fn(&NodeId) -> Option<IdentityPublic>) -> serde_json::Value {
        let organisations: Vec<_> = self
            .organisations
            .iter()
            .map(|organisation| {
                let nodes: Vec<_> = organisation
                    .nodes
                    .iter()
                    .filter_map(|node| {
                        let id = NodeId { organisation: organisation.name.clone(), node: node.clone() };
                        Some(serde_json::json!({ "name": node, "identity": identity_of(&id)? }))
                    })
                    .collect();
                serde_json::json!({ "name": organisation.name, "threshold": organisation.threshold, "nodes": nodes })
            })
            .collect();
        serde_json::json!({
            "name": self.ceremony.name,
            "keys": self.keys,
            "organisations": organisations,
            "deadline_minutes": self.ceremony.deadline_minutes,
        })
    }

    fn check(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        for (_, name) in self.clients() {
            if !names.insert(name.as_str()) {
                return Err(format!("the client {name} is named twice; give each a name of its own"));
            }
        }
        let mut nodes = BTreeSet::new();
        for (_, id) in self.nodes() {
            if !nodes.insert(id.clone()) {
                return Err(format!("the node {id} is named twice; give each a name of its own"));
            }
        }
        if self.certificate_days == 0 || self.certificate_days > 3650 {
            return Err("certificate_days must be 1 to 3650".to_owned());
        }
        self.check_log()?;
        self.check_builders()?;
        // The limits and rules of organisations, thresholds, keys and names are those of a ceremony: let it judge.
        let identities = stand_ins(self.nodes().count());
        let mut identities = identities.into_iter();
        let organisations = self
            .organisations
            .iter()
            .map(|organisation| OrganisationSpec {
                name: organisation.name.clone(),
                threshold: organisation.threshold,
                nodes: organisation
                    .nodes
                    .iter()
                    .zip(identities.by_ref())
                    .map(|(name, identity)| NodeSpec { name: name.clone(), identity })
                    .collect(),
            })
            .collect();
        let spec = ProposalSpec {
            name: self.ceremony.name.clone(),
            proposed_at: 1,
            deadline: u64::from(self.ceremony.deadline_minutes).saturating_mul(60).saturating_add(1),
            keys: self.keys.clone(),
            organisations,
        };
        Proposal::new(spec).map(drop).map_err(|error| error.to_string())
    }

    fn check_builders(&self) -> Result<(), String> {
        let own = self.organisations.iter().filter_map(|organisation| organisation.allow.as_ref());
        let mut products: BTreeMap<&str, (Class, &Product)> = BTreeMap::new();
        let mut named = BTreeSet::new();
        for allow in own.flatten().chain(&self.allow) {
            let Allow { class, product, builder, builder_id, unattested, .. } = allow;
            match (builder, builder_id) {
                (None, None) if *unattested => {}
                (Some(_), Some(_)) if *unattested => {
                    return Err(format!(
                        "{class} {product} has both a `builder` and `unattested = true`; remove one"
                    ));
                }
                (Some(builder), Some(id)) => {
                    if self.builders.iter().all(|known| known.name != *builder) {
                        let known: Vec<&str> =
                            self.builders.iter().map(|known| known.name.as_str()).collect();
                        return Err(format!(
                            "{class} {product} names the builder {builder:?}, and no [[builder]] has that name (there are: {})",
                            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                        ));
                    }
                    named.insert(builder.as_str());
                    let other =
                        products.insert(id, (*class, product)).filter(|other| *other != (*class, product));
                    if let Some((other_class, other)) = other {
                        return Err(format!(
                            "the builder id {id:?} stands for {other_class} {other} and for {class} {product}: it would not tell \
                             them apart; give each product an id of its own"
                        ));
                    }
                }
                _ => {
                    return Err(format!(
                        "{class} {product} does not say who attests its builds; name `builder` and `builder_id`, or write \
                         `unattested = true` for a trial"
                    ));
                }
            }
        }
        for Builder { name, public_key } in &self.builders {
            if !named.contains(name.as_str()) {
                return Err(format!(
                    "the [[builder]] {name:?} is named by no [[allow]]; remove it, or name it"
                ));
            }
            let (role, ids) = (Role::Builder, vec!["https://builder.example".to_owned()]);
            let key = AttestationKey { name: name.clone(), role, public_key: public_key.clone(), ids };
            if let Err(problem) = Trust::new(vec![key], "") {
                return Err(format!(
                    "the [[builder]] {name:?} is not usable: {problem}; `public_key` is the content of a file, not its path"
                ));
            }
        }
        Ok(())
    }

    fn check_log(&self) -> Result<(), String> {
        let listen = self.log_listen();
        if listen == self.coordinator.listen && listen.port() != 0 {
            return Err(format!(
                "the coordinator and the log both listen on {listen}: give [log] another port"
            ));
        }
        if self.log.url.is_none() && listen.ip().is_unspecified() {
            return Err(format!(
                "[log] listens on every address ({listen}): say in its `url` how the world reaches it"
            ));
        }
        Ok(())
    }
}

impl Organisation {
    /// Its nodes.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().map(|node| NodeId { organisation: self.name.clone(), node: node.clone() })
    }
}

impl Default for Clients {
    fn default() -> Self {
        let one = |name: &str| Requester::new(name).into_iter().collect();
        Self {
            pipelines: one("pipeline"),
            operators: one("operator"),
            custodians: one("custodian"),
            auditors: one("auditor"),
        }
    }
}

impl Default for Ceremony {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "a constant that is a legal name")]
        let name = KeyName::new("genesis").expect("a legal name");
        Self { name, deadline_minutes: 60 }
    }
}

fn one_release_key() -> Vec<KeySpec> {
    KeyName::new("release").map(|name| KeySpec { name, purpose: Purpose::Release }).into_iter().collect()
}

fn default_coordinator_name() -> Requester {
    #[expect(clippy::expect_used, reason = "a constant that is a legal name")]
    Requester::new("coordinator").expect("a legal name")
}

fn default_certificate_days() -> u32 {
    825
}

/// Different identities without meaning, one for each node: a description has none yet.
fn stand_ins(count: usize) -> Vec<IdentityPublic> {
    (0..count)
        .map(|number| {
            let mut secret = [0; 32];
            for (place, byte) in secret.iter_mut().zip(number.to_be_bytes()) {
                *place = byte;
            }
            rutli_keys::IdentityKey::from_bytes(&secret).public()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        name = "try"
        [coordinator]
        listen = "127.0.0.1:7410"
        [[organisation]]
        name = "vendor"
        threshold = 2
        nodes = ["vendor-1", "vendor-2", "vendor-3"]
        [[organisation]]
        name = "supervisor"
        threshold = 1
        nodes = ["supervisor-1"]
    "#;

    #[test]
    fn the_example_is_a_description() {
        let deployment = Deployment::parse(EXAMPLE).unwrap();
        assert_eq!(deployment.nodes().count(), 4);
        assert_eq!(deployment.clients().count(), 5);
        assert!(!deployment.allow.is_empty());
    }

    #[test]
    fn a_product_has_one_builder_or_says_that_it_has_none() {
        const KEY: &str = include_str!("../../../../deploy/examples/vendor-node/vendor-builder.pem");
        let allow = |product: &str, more: &str| {
            format!("\n[[allow]]\nclass = \"product-build\"\nproduct = \"{product}\"\n{more}")
        };
        let builder = |name: &str, key: &str| {
            format!("\n[[builder]]\nname = \"{name}\"\npublic_key = \"\"\"\n{key}\"\"\"")
        };
        let by = |name: &str, id: &str| format!("builder = \"{name}\"\nbuilder_id = \"{id}\"");
        let problem =
            |more: &[String]| Deployment::parse(&format!("{SMALL}{}", more.concat())).unwrap_err().problem;
        for silent in ["", "builder = \"ci\"", "builder_id = \"https://ci.example\""] {
            assert!(
                problem(&[allow("suite", silent)]).contains("does not say who attests its builds"),
                "{silent}"
            );
        }
        let suite = allow("suite", &by("ci", "https://ci.example/suite"));
        assert!(
            problem(std::slice::from_ref(&suite)).contains("no [[builder]] has that name (there are: none)")
        );
        let both = allow("suite", &format!("{}\nunattested = true", by("ci", "https://ci.example/suite")));
        assert!(problem(&[both, builder("ci", KEY)]).contains("remove one"));
        let tools = allow("tools", &by("ci", "https://ci.example/suite"));
        assert!(
            problem(&[suite.clone(), tools, builder("ci", KEY)])
                .contains("stands for product-build suite and for")
        );
        let unused = [suite.clone(), builder("ci", KEY), builder("other", KEY)];
        assert!(problem(&unused).contains("\"other\" is named by no [[allow]]"));
        for wrong in ["ci.pub", "", "-----BEGIN PUBLIC KEY-----\n"] {
            let said = problem(&[suite.clone(), builder("ci", wrong)]);
            assert!(said.contains("\"ci\" is not usable") && said.contains("not its path"), "{said}");
        }
        // One key may stand for several builders.
        let tools = allow("tools", &by("ci", "https://ci.example/tools"));
        let text = format!("{SMALL}{suite}{tools}{}", builder("ci", KEY));
        assert_eq!(Deployment::parse(&text).unwrap().builders.len(), 1);
        Deployment::parse(&format!("{SMALL}{}", allow("suite", "unattested = true"))).unwrap();
        let own = "threshold = 1\nallow = [{ class = \"product-build\", product = \"x\" }]";
        let own = SMALL.replace("threshold = 1", own);
        assert!(Deployment::parse(&own).unwrap_err().problem.contains("product-build x does not say"));
    }

    #[test]
    fn what_is_left_out_has_defaults() {
        let deployment = Deployment::parse(SMALL).unwrap();
        assert_eq!(deployment.url(), "https://127.0.0.1:7410");
        assert_eq!(deployment.server_names(), ["localhost", "127.0.0.1"]);
        assert_eq!(deployment.keys[0].name.as_str(), "release");
        assert_eq!(deployment.log_origin().unwrap().as_str(), "try.log.example/1");
        assert_eq!(deployment.log_url().unwrap().as_str(), "http://127.0.0.1:7412");
        let proposal = deployment.proposal(|_| Some(rutli_keys::IdentityKey::from_bytes(&[1; 32]).public()));
        assert_eq!(proposal["organisations"][0]["nodes"][2]["name"], "vendor-3");
        assert_eq!(proposal["deadline_minutes"], 60);
    }

    #[test]
    fn a_log_is_where_the_description_says() {
        let text = format!(
            "{SMALL}\n[log]\norigin = \"log.example.com/2026\"\nlisten = \"0.0.0.0:80\"\nurl = \"https://log.example.com/\""
        );
        let deployment = Deployment::parse(&text).unwrap();
        assert_eq!(deployment.log_origin().unwrap().as_str(), "log.example.com/2026");
        assert_eq!(deployment.log_listen().port(), 80);
        assert_eq!(deployment.log_url().unwrap().as_str(), "https://log.example.com");
    }

    #[test]
    fn mistakes_about_the_log_are_named() {
        let problem = |log: &str| Deployment::parse(&format!("{SMALL}\n[log]\n{log}")).unwrap_err().problem;
        assert!(problem("origin = \"my log\"").contains("without spaces"));
        assert!(problem("listen = \"127.0.0.1:7410\"").contains("both listen on"));
        assert!(problem("listen = \"0.0.0.0:7412\"").contains("every address"));
        assert!(problem("url = \"log.example.com\"").contains("https://log.example.com"));
        assert!(problem("key = \"log.pem\"").contains("key"));
    }

    #[test]
    fn mistakes_are_named() {
        let problem = |text: String| Deployment::parse(&text).unwrap_err().problem;
        assert!(problem(SMALL.replace("threshold = 2", "threshold = 4")).contains("threshold"));
        assert!(problem(SMALL.replace("vendor-2", "vendor-1")).contains("vendor-1"));
        assert!(problem(SMALL.replace("vendor-2", "Vendor 2")).contains("Vendor 2"));
        assert!(problem(format!("{SMALL}\nunknown = 1")).contains("unknown"));
        let twice = format!("{SMALL}\n[clients]\npipelines = [\"a\"]\noperators = [\"a\"]");
        assert!(problem(twice).contains("named twice"));
    }
}
