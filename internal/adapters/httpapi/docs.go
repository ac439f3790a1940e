package httpapi

import (
	"embed"
	"net/http"
	"path"

	"github.com/gin-gonic/gin"
)

// The page is made by https://github.com/Authress-Engineering/openapi-explorer (Apache-2.0); `make docs-page` fetches it.
//
//go:embed openapi.yaml docs.html docs
var documents embed.FS

// contentTypes has the content types of the documents, by file extension.
var contentTypes = map[string]string{
	".html":    "text/html; charset=utf-8",
	".js":      "text/javascript; charset=utf-8",
	".yaml":    "application/yaml",
	".LICENSE": "text/plain; charset=utf-8",
}

// pagePolicy forbids the page to load anything from other servers, and other pages to show it in a frame. The explorer needs inline styles.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// serveDocs adds the contract, and a page that shows it.
func serveDocs(engine *gin.Engine) {
	engine.GET("/openapi.yaml", func(c *gin.Context) { serveDocument(c, "openapi.yaml") })
	engine.GET("/docs", func(c *gin.Context) { serveDocument(c, "docs.html") })
	engine.GET("/docs/:file", func(c *gin.Context) { serveDocument(c, path.Join("docs", c.Param("file"))) })
}

func serveDocument(c *gin.Context, name string) {
	content, err := documents.ReadFile(name)
	if err != nil {
		refuse(c, errRoute)
		return
	}
	kind := contentTypes[path.Ext(name)]
	if path.Ext(name) == ".html" {
		c.Header("Content-Security-Policy", pagePolicy)
		c.Header("Referrer-Policy", "no-referrer")
		c.Header("X-Frame-Options", "DENY")
	}
	c.Data(http.StatusOK, kind, content)
}
