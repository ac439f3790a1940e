// Tells the page's live parts when there is a newer reading (htmx asks for them again), and says when the connection is lost. A hidden tab has no connection.
(function () {
  "use strict";
  var source = null, timer = 0;
  function lost(is) { document.getElementById("lost").hidden = !is; }
  function close() {
    clearTimeout(timer);
    if (source) { source.close(); source = null; }
  }
  function open() {
    close();
    if (document.hidden || !document.querySelector("[hx-get]")) { return; }
    source = new EventSource("/console/live");
    source.addEventListener("reading", function () {
      lost(false);
      document.body.dispatchEvent(new Event("reading"));
    });
    source.onerror = function () {
      lost(true);
      if (source && source.readyState === EventSource.CLOSED) { askWhy(); timer = setTimeout(open, 2000); }
    };
  }
  // The browser does not tell why it was refused. If the session has ended, the page leads to the sign-in page.
  function askWhy() {
    var request = new AbortController();
    fetch("/console/live", { signal: request.signal }).then(function (answer) {
      if (answer.status === 401) { location.reload(); }
      request.abort();
    }, function () {});
  }
  document.addEventListener("visibilitychange", open);
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  document.addEventListener("htmx:sendError", function () { lost(true); });
  document.addEventListener("htmx:responseError", function () { lost(true); });
})();
