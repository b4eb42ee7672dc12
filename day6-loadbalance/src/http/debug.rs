//! The debug page: what this server can do, and how often it was asked, for people with a browser.
//!
//! Services, their methods and types come from the [`ServiceMap`] that serves the calls, and the counters
//! are the live ones, so the page cannot be out of date.

use std::fmt::Write;

use crate::service::map::ServiceMap;

/// The page as HTML, sorted by service and method.
pub(crate) fn page(services: &ServiceMap) -> String {
    let mut page = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>rrpc services</title></head>\n<body>\n<h1>rrpc services</h1>\n",
    );
    for service in services.services() {
        // Writing to a String cannot fail.
        let _ = write!(page, "<h2>{}</h2>\n<table>\n", Escaped(service.name()));
        page.push_str("<tr><th>method</th><th>argument</th><th>reply</th><th>calls</th></tr>\n");
        for (name, method) in service.methods() {
            let (argument, reply) = (method.argument_type(), method.reply_type());
            let _ = writeln!(
                page,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                Escaped(name),
                Escaped(&argument),
                Escaped(&reply),
                method.calls()
            );
        }
        page.push_str("</table>\n");
    }
    page.push_str("</body></html>\n");
    page
}

/// Text that is safe inside of HTML. A type like `Vec<Sum>` would be read as a tag.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
