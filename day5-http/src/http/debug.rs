//! The debug page: what this server can do, and how often it was asked, for people with a browser.
//!
//! Services, their methods and types come from the [`ServiceMap`] that serves the calls, and the counters
//! are the live ones, so the page cannot be out of date.

use std::fmt::Write;
use std::time::Duration;

use crate::service::map::ServiceMap;

/// Readable on a phone and on a wide screen, by day and by night. Nothing is loaded from elsewhere.
const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>rrpc services</title><style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
div { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem .75rem; border-bottom: 1px solid #8884 }
th { font-size: .85em; opacity: .7 }
:is(th, td):first-child { padding-left: 0 }
:is(th, td):last-child { padding-right: 0 }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere }
tr:hover { background: #8881 }
@media (max-width: 40rem) {
  body { margin: 1rem auto }
  table { font-size: .85rem }
  th, td { padding: .5rem .3rem; vertical-align: top }
}
</style></head>
<body>
<h1>rrpc services</h1>
"#;

/// The page as HTML, sorted by service and method.
pub(super) fn page(services: &ServiceMap, uptime: Duration, connections: usize) -> String {
    let mut page = HEAD.to_owned();
    let (minutes, seconds) = (uptime.as_secs() / 60, uptime.as_secs() % 60);
    let uptime = format!("{}:{:02}:{seconds:02}", minutes / 60, minutes % 60);
    // Writing to a String cannot fail.
    let _ = writeln!(page, "<p>uptime <b>{uptime}</b>, connections <b>{connections}</b></p>");
    for service in services.services() {
        let _ = write!(page, "<h2>{}</h2>\n<div><table>\n", Escaped(service.name()));
        page.push_str("<tr><th>method</th><th>argument</th><th>reply</th>");
        page.push_str(
            "<th class=\"n\">calls</th><th class=\"n\">errors</th><th class=\"n\">in flight</th></tr>\n",
        );
        for (name, method) in service.methods() {
            page.push_str("<tr>");
            for text in [name, &method.argument_type(), &method.reply_type()] {
                let _ = write!(page, "<td><code>{}</code></td>", Escaped(text));
            }
            for count in [method.calls(), method.errors(), method.in_flight()] {
                let _ = write!(page, "<td class=\"n\">{count}</td>");
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</table></div>\n");
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
