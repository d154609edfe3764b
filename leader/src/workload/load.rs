//! How busy this machine's processors are, as the kernel counts.

/// The counters of the last look.
#[derive(Debug, Default)]
pub(super) struct ProcessorLoad {
    last: Option<Counters>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counters {
    total: u64,
    idle: u64,
}

impl ProcessorLoad {
    /// Busy time since the last call, 0 to 100; None at the first call, and where the kernel does
    /// not say.
    pub(super) fn busy_percent(&mut self) -> Option<u8> {
        let text = std::fs::read_to_string("/proc/stat").ok()?;
        let now = parse(&text)?;
        let last = self.last.replace(now)?;
        percent(last, now)
    }
}

/// The first line: user nice system idle iowait irq softirq steal ...
fn parse(text: &str) -> Option<Counters> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4)?;
    // Guests are counted in user time already.
    Some(Counters { total: ticks.iter().take(8).sum(), idle })
}

fn percent(last: Counters, now: Counters) -> Option<u8> {
    let total = now.total.checked_sub(last.total).filter(|total| *total > 0)?;
    let idle = now.idle.saturating_sub(last.idle).min(total);
    u8::try_from((total - idle) * 100 / total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_what_is_not_idle() {
        let last = parse("cpu  10 0 10 70 10 0 0 0 5 0\ncpu0 1").unwrap();
        assert_eq!(last, Counters { total: 100, idle: 80 });
        let now = parse("cpu  70 0 20 90 20 0 0 0 9 0\n").unwrap();
        assert_eq!(percent(last, now), Some(70));
        assert_eq!(percent(now, now), None);
        assert_eq!(parse("intr 5"), None);
    }
}
