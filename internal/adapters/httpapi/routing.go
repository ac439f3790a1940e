package httpapi

import (
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/gin-gonic/gin"
)

// routed reports whether the contract has the request's path and method. A request for anything else gets 404 or 405, whatever its parameters
// and its body are.
func routed(c *gin.Context) bool { return c.FullPath() != "" }

// refuseRoute answers requests whose path has no route. If the path without its last slash has a route, refuseRoute redirects there. The status
// 308 makes clients send the same method and body again.
func refuseRoute(engine *gin.Engine) gin.HandlerFunc {
	patterns := sync.OnceValue(func() (patterns []string) {
		for _, route := range engine.Routes() {
			patterns = append(patterns, route.Path)
		}
		return patterns
	})
	return func(c *gin.Context) {
		for _, pattern := range patterns() {
			if target, found := withoutSlash(c.Request.URL, pattern); found {
				c.Redirect(http.StatusPermanentRedirect, target)
				c.Abort()
				return
			}
		}
		refuse(c, errRoute)
	}
}

// withoutSlash returns the address without the last slash of its path, if pattern matches the rest of the path. The address is a path of this
// server: no pattern matches a path that begins with two slashes, which a browser would read as the name of a host.
func withoutSlash(from *url.URL, pattern string) (target string, found bool) {
	path, cut := strings.CutSuffix(from.EscapedPath(), "/")
	given, wanted := strings.Split(path, "/"), strings.Split(pattern, "/")
	if !cut || path == "" || len(given) != len(wanted) {
		return "", false
	}
	for i, part := range wanted {
		if strings.HasPrefix(part, "*") || given[i] != part && (!strings.HasPrefix(part, ":") || given[i] == "") {
			return "", false
		}
	}
	if from.RawQuery != "" {
		path += "?" + from.RawQuery
	}
	return path, true
}
