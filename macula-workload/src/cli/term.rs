//! Colour on a terminal, plain text in a pipe; and the tree as text.

use std::io::IsTerminal as _;

use macula_workload::supervision::policy::ChildKind;
use macula_workload::supervision::{ChildState, TreeNode};

use super::Color;

/// How text is painted: with ANSI codes or not at all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    colored: bool,
}

impl Paint {
    pub(crate) fn new(color: Color) -> Self {
        let colored = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
            }
        };
        Self { colored }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.colored { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// The tree, a line for each actor.
    pub(crate) fn tree(self, root: &TreeNode) -> String {
        let mut lines = Vec::new();
        self.branch(root, "", "", &mut lines);
        lines.join("\n")
    }

    fn branch(self, node: &TreeNode, stem: &str, twig: &str, lines: &mut Vec<String>) {
        let name = match node.kind {
            ChildKind::Supervisor => self.bold(node.path.name()),
            ChildKind::Worker => node.path.name().to_owned(),
        };
        lines.push(format!("{stem}{twig}{name} {}", self.describe(node)));
        let stem = match twig {
            "" => String::new(),
            "└─ " => format!("{stem}   "),
            _ => format!("{stem}│  "),
        };
        for (index, child) in node.children.iter().enumerate() {
            let twig = if index + 1 == node.children.len() { "└─ " } else { "├─ " };
            self.branch(child, &stem, twig, lines);
        }
    }

    fn describe(self, node: &TreeNode) -> String {
        let state = match node.state {
            ChildState::Running => self.green("running"),
            ChildState::Starting => self.yellow("starting"),
            ChildState::Restarting => self.yellow("restarting"),
            ChildState::Stopping => self.yellow("stopping"),
            ChildState::Down => self.red("down"),
        };
        let mut parts = vec![state];
        match (node.kind, node.strategy) {
            (ChildKind::Supervisor, Some(strategy)) => {
                parts.push(self.dim(&format!("{strategy:?}").to_lowercase_words()));
            }
            (ChildKind::Supervisor, None) if node.dynamic => parts.push(self.dim("dynamic")),
            _ => {}
        }
        if node.restarts > 0 {
            parts.push(self.yellow(&format!("restarted {}x", node.restarts)));
        }
        if let Some(reason) = &node.last_exit {
            parts.push(self.dim(&format!("last: {}", reason.kind())));
        }
        parts.join(", ")
    }
}

trait Words {
    fn to_lowercase_words(&self) -> String;
}

impl Words for String {
    /// `OneForAll` as OTP spells it.
    fn to_lowercase_words(&self) -> String {
        let mut words = Self::new();
        for character in self.chars() {
            if character.is_uppercase() && !words.is_empty() {
                words.push('_');
            }
            words.extend(character.to_lowercase());
        }
        words
    }
}
