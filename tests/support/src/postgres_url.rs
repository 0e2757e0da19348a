//! The parts of a PostgreSQL URL that tests exchange: the server's address and the database.

/// What stands before the address, the address, and what stands behind it. None when it is no URL.
fn split(url: &str) -> Option<(&str, &str, &str)> {
    let start = url.find("://")? + 3;
    let end = url[start..].find(['/', '?']).map_or(url.len(), |end| start + end);
    let start = url[start..end].rfind('@').map_or(start, |at| start + at + 1);
    Some((&url[..start], &url[start..end], &url[end..]))
}

/// The server's `host:port`. None when it is no URL.
pub fn address(url: &str) -> Option<&str> {
    split(url).map(|(_, address, _)| address)
}

/// The URL with another `host:port`. None when it is no URL.
pub fn at(url: &str, address: impl ToString) -> Option<String> {
    split(url).map(|(before, _, after)| format!("{before}{}{after}", address.to_string()))
}

/// The URL with another database. None when it is no URL.
pub fn database(url: &str, name: &str) -> Option<String> {
    let (before, address, after) = split(url)?;
    let options = after.find('?').map(|start| &after[start..]).unwrap_or_default();
    Some(format!("{before}{address}/{name}{options}"))
}

#[cfg(test)]
mod tests {
    use super::{address, at, database};

    #[test]
    fn the_address_and_the_database_are_exchanged_and_the_rest_stays() {
        for (user, db, options) in [("saga:a@b@", "/saga", "?x=1"), ("", "", ""), ("saga@", "", "?x=1"), ("", "/s", "")]
        {
            let url = format!("postgres://{user}host:5432{db}{options}");
            assert_eq!(address(&url), Some("host:5432"));
            assert_eq!(at(&url, "other:1"), Some(format!("postgres://{user}other:1{db}{options}")));
            assert_eq!(database(&url, "new"), Some(format!("postgres://{user}host:5432/new{options}")));
        }
        assert_eq!(address("host:5432"), None);
    }
}
