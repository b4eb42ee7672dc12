//! Every link of the site that leads to the site itself: is there such a page, and does it have that anchor?

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// A page of the site, as far as links matter.
struct Html {
    links: BTreeSet<String>,
    anchors: BTreeSet<String>,
}

/// How many links are right, and a line for each that is not.
pub(crate) fn links(site: &Path) -> Result<(usize, Vec<String>)> {
    let mut files = BTreeMap::new();
    collect(site, "", &mut files)?;
    let mut count = 0;
    let mut wrong = Vec::new();
    for (page, html) in files.iter().filter_map(|(page, html)| Some((page, html.as_ref()?))) {
        for link in html.links.iter().filter(|link| is_internal(link)) {
            count += 1;
            if let Some(why) = problem(&files, page, link) {
                wrong.push(format!("{page}: the link {link} leads to {why}"));
            }
        }
    }
    Ok((count, wrong))
}

/// All files by path; those that are pages with their links.
fn collect(root: &Path, folder: &str, files: &mut BTreeMap<String, Option<Html>>) -> Result<()> {
    let dir = root.join(folder);
    for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let path = format!("{folder}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            collect(root, &format!("{path}/"), files)?;
        } else {
            let is_page = path.ends_with(".html");
            let html =
                is_page.then(|| fs::read_to_string(entry.path()).map(|text| parse(&text))).transpose()?;
            files.insert(path, html);
        }
    }
    Ok(())
}

fn parse(html: &str) -> Html {
    let (mut links, mut anchors) = (BTreeSet::new(), BTreeSet::new());
    // In a text and in code, `<` and `>` are written as `&lt;` and `&gt;`.
    for tag in html.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
        links.extend([" href=\"", " src=\""].into_iter().filter_map(|name| value(tag, name)));
        anchors.extend([" id=\"", " name=\""].into_iter().filter_map(|name| value(tag, name)));
    }
    Html { links, anchors }
}

fn value(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(name)?;
    Some(rest.split('"').next()?.replace("&amp;", "&"))
}

fn is_internal(link: &str) -> bool {
    let before_path = link.split(['/', '#', '?']).next().unwrap_or_default();
    !before_path.contains(':') && !link.starts_with("//")
}

/// What is wrong with a link on a page, if anything is.
fn problem(files: &BTreeMap<String, Option<Html>>, page: &str, link: &str) -> Option<String> {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let path = path.split('?').next().unwrap_or_default();
    let mut parts: Vec<&str> = page.split('/').collect();
    if !path.is_empty() {
        parts.pop();
    }
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part != ".." {
            parts.push(part);
        } else if parts.pop().is_none() {
            return Some("a place outside of the book".to_owned());
        }
    }
    let mut target = parts.join("/");
    if path.ends_with('/') || target.is_empty() {
        target = format!("{target}/index.html").trim_start_matches('/').to_owned();
    }
    match files.get(&target) {
        None => Some(format!("{target}, which is not there")),
        Some(_) if anchor.is_empty() => None,
        Some(html) => {
            let has = html.as_ref().is_some_and(|html| html.anchors.contains(anchor));
            (!has).then(|| format!("{target}, which has no #{anchor}"))
        }
    }
}
