package httpapi

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/gin-gonic/gin"
	"go.yaml.in/yaml/v3"
)

// The page is made by https://github.com/Authress-Engineering/openapi-explorer (Apache-2.0); `make docs-page` fetches it.
//
//go:embed openapi.yaml docs.html docs
var documents embed.FS

// contentTypes has the content types of the documents, by file extension.
var contentTypes = map[string]string{
	".html":    "text/html; charset=utf-8",
	".js":      "text/javascript; charset=utf-8",
	".yaml":    "application/openapi+yaml",
	".LICENSE": "text/plain; charset=utf-8",
}

// pagePolicy forbids the page to load anything from other servers, and other pages to show it in a frame. The explorer needs inline styles.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// servedPart is the document that the page of a listener shows: the operations that this listener serves. So the page can try each of them, at
// whatever address a browser reaches the listener.
const servedPart = "docs/served.yaml"

// page is what the page of one listener shows.
type page struct {
	admin    bool   // the operations of the admin listener, or those of the API
	settings string // attributes of the explorer
}

var (
	apiPage   = page{settings: "hide-authentication"}
	adminPage = page{admin: true}
)

// serveContract adds the whole contract.
func serveContract(engine *gin.Engine) {
	serveDocument(engine, "/openapi.yaml", documentNamed("openapi.yaml"))
}

// serveDocs adds a page that shows the operations of the listener, and tries them.
func serveDocs(engine *gin.Engine, shown page) {
	html := documentNamed("docs.html")
	html.content = []byte(strings.ReplaceAll(string(html.content), "EXPLORER_SETTINGS", shown.settings))
	serveDocument(engine, "/docs", html)
	files := map[string]document{path.Base(servedPart): {servedPart, partOf(shown.admin)()}}
	entries, err := documents.ReadDir("docs")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	for _, entry := range entries {
		files[entry.Name()] = documentNamed(path.Join("docs", entry.Name()))
	}
	engine.GET("/docs/:file", func(c *gin.Context) {
		found, ok := files[c.Param("file")]
		if !ok {
			refuse(c, errRoute)
			return
		}
		found.answer(c)
	})
}

func serveDocument(engine *gin.Engine, at string, served document) {
	engine.GET(at, served.answer)
}

// document is a file that the program contains.
type document struct {
	name    string
	content []byte
}

func documentNamed(name string) document {
	content, err := documents.ReadFile(name)
	if err != nil {
		panic(err) // the file is part of the program
	}
	return document{name, content}
}

// answer answers with the document. Clients keep it, and ask whether it has changed.
func (d document) answer(c *gin.Context) {
	if path.Ext(d.name) == ".html" {
		c.Header("Content-Security-Policy", pagePolicy)
		c.Header("Referrer-Policy", "no-referrer")
		c.Header("X-Frame-Options", "DENY")
	}
	hash := sha256.Sum256(d.content)
	tag := `W/"` + base64.RawURLEncoding.EncodeToString(hash[:12]) + `"` // weak: the answer may be compressed
	c.Header("ETag", tag)
	c.Header("Cache-Control", "no-cache")
	if !unchanged(c, tag) {
		c.Data(http.StatusOK, contentTypes[path.Ext(d.name)], d.content)
	}
}

// The two parts of the contract.
var (
	apiPart   = sync.OnceValue(func() []byte { return contractFor(false) })
	adminPart = sync.OnceValue(func() []byte { return contractFor(true) })
)

func partOf(admin bool) func() []byte {
	if admin {
		return adminPart
	}
	return apiPart
}

// contractFor returns the contract with only the operations of the admin listener, or only those of the API. In the contract, a path of the
// admin listener names its server, which is its usual address. The result names none, so clients ask the server that they got it from.
func contractFor(admin bool) []byte {
	var root yaml.Node
	if err := yaml.Unmarshal(documentNamed("openapi.yaml").content, &root); err != nil {
		panic(err) // the file is part of the program
	}
	contract := root.Content[0]
	keepPairs(member(contract, "paths"), func(_ string, item *yaml.Node) bool {
		elsewhere := member(item, "servers") != nil
		keepPairs(item, func(name string, _ *yaml.Node) bool { return name != "servers" })
		return elsewhere == admin
	})
	tags := member(contract, "tags")
	tags.Content = slices.DeleteFunc(tags.Content, func(tag *yaml.Node) bool { return (member(tag, "name").Value == "admin") != admin })
	if admin {
		member(member(contract, "info"), "title").Value = "Outboxie operators"
		member(member(contract, "info"), "description").Value = "What operators may ask an instance or a subscriber. Everything except the probes " +
			"needs the admin token: enter it below **Authentication**."
	}
	text, err := yaml.Marshal(&root)
	if err != nil {
		panic(err) // it was read from such a text
	}
	return text
}

// member returns the value of a name in a mapping, or nil.
func member(mapping *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// keepPairs removes the pairs of a mapping that keep refuses.
func keepPairs(mapping *yaml.Node, keep func(name string, value *yaml.Node) bool) {
	var kept []*yaml.Node
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if keep(mapping.Content[i].Value, mapping.Content[i+1]) {
			kept = append(kept, mapping.Content[i], mapping.Content[i+1])
		}
	}
	mapping.Content = kept
}
