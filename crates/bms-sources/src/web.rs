//! One file at an address.

use bms_wire::Result;
use url::Url;

use crate::auth::{Scope, Token};
use crate::digest::Expected;
use crate::http::Http;
use crate::plan::{Item, Place, Plan};
use crate::source::web_name;

/// What is there. Its size shows when it comes.
pub(crate) fn plan(
    http: &Http,
    source: String,
    url: &Url,
    sha256: Option<&str>,
    token: Option<&Token>,
) -> Result<Plan> {
    http.check(url)?;
    let item = Item {
        path: web_name(url)?,
        size: None,
        expected: sha256.map_or(Expected::Unknown, |digest| Expected::Sha256(digest.to_owned())),
        place: Place::Web {
            url: url.clone(),
            scope: token.map(|token| Scope::new(token.clone(), url)),
            commit: None,
        },
        cached: None,
    };
    Ok(Plan { source, revision: None, single: true, items: vec![item] })
}
