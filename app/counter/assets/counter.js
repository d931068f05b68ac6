// A counter for pages (docs/on-your-page.md). It is served packed, in less than 2,000 bytes, so many names here are short:
// q: a query for elements, e: an element, n: the name of a counter, a: an answer, s: a storage, w: seconds to wait.
// Whatever fails, the page stays as it is.
(() => {
  const d = document, me = d.currentScript, own = me.dataset.counter, api = new URL("api/counters/", me.src), tab = "sessionStorage",
    all = (q, f) => d.querySelectorAll(q).forEach(f),
    on = (t, f) => d.addEventListener(t, f),
    at = n => `[data-counter-value="${n}"]`,
    show = (q, a) => a.value >= 0 && all(q, e => e.textContent = a.value.toLocaleString()),
    // A browser may forbid a page to store anything.
    keep = (n, t, s = "localStorage") => { try { s = window[s], n = "counter:" + n; return s[n] = t || s[n] || "" } catch {} },
    ask = (p, method, key) => fetch(api + p, { method, headers: key ? { "Idempotency-Key": key } : {}, keepalive: 1 })
      .then(a => a.json()).catch(() => ({})),
    // Repeats what was not confirmed, with the key of the first attempt. Independent nodes take no keys.
    count = async (n, key, w = 1) => {
      const a = await ask(n + "/increment", "POST", key), next = a.operation_id;
      if (a.value || w > 8 || !next && (w > 1 || !/key-uns/.test(a.code))) return a;
      await new Promise(f => setTimeout(f, w * 1e3));
      return count(n, next, w * 2);
    },
    // Once in a storage, or each time.
    visit = async (n, s, q) => {
      const a = await (s && keep(n, "", s) ? ask(n) : count(n));
      s && a.value && keep(n, 1, s);
      show(q, a);
      return a.value;
    },
    // A number stands for the rest of a long path.
    part = t => (t = t.replace(/[^\w.-]+/g, "-").replace(/^-|-$/g, "") || "-").length < 57 ? t
      : t.slice(0, 48) + "-" + ([...t].reduce((sum, c) => sum * 31 + c.charCodeAt() | 0, 7) >>> 0),
    // The ids of busuanzi and vercount. Of visitors, only those of a tab are known.
    theme = async (id, n, s) => {
      const ids = t => `#busuanzi_${t + id},#vercount_${t + id}`, q = ids("value_") + "," + ids("");
      d.querySelector(q) && await visit(n, s, q) && all(ids("container_"), e => e.style.display = "inline");
    },
    start = () => {
      const site = part(location.hostname), page = site + "/" + part(location.pathname);
      own && visit(own, "once" in me.dataset && tab, at(own));
      all("[data-counter-value]", async e => {
        const n = e.dataset.counterValue;
        n != own && show(at(n), await ask(n));
      });
      theme("site_pv", site);
      theme("page_pv", page);
      theme("site_uv", site + "/.visits", tab);
      theme("page_uv", page + ".visits", tab);
      all("[data-counter-like]", e => {
        const n = e.dataset.counterLike;
        e.disabled = keep(n) == 1;
        e.onclick = async ev => {
          ev.preventDefault();
          e.disabled = 1;
          // Stored before it is sent: after a failure or a reload, the same key is sent again.
          const key = keep(n) || crypto.getRandomValues(new Uint32Array(4)).join("-");
          keep(n, key);
          const a = await count(n, key);
          (e.disabled = a.value > 0) && keep(n, 1);
          show(at(n), a);
        };
      });
    },
    begin = () => d.prerendering ? on("prerenderingchange", start) : start();
  d.readyState == "loading" ? on("DOMContentLoaded", begin) : begin();
})();
