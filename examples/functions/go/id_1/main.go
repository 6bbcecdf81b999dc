// The function id_1: asks the function id_2 about the book that the request names.
package main

import (
	"strings"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"functions/layotto"
)

func main() {}

func init() {
	proxywasm.SetHttpContext(func(uint32) types.HttpContext { return &ask{} })
}

//go:wasmexport proxy_get_id
func getID() { layotto.SayID("id_1") }

type ask struct{ types.DefaultHttpContext }

// A request without a body has its query in the place of it: name=book1.
func (*ask) OnHttpRequestBody(length int, _ bool) types.Action {
	body, _ := proxywasm.GetHttpRequestBody(0, length)
	book, found := strings.CutPrefix(string(body), "name=")
	if !found {
		return refuse(400, "name=BOOK is missing")
	}
	answer, err := layotto.InvokeService("id_2", "", book)
	if err != nil {
		proxywasm.LogErrorf("id_2 did not answer: %v", err)
		return refuse(502, "id_2 did not answer")
	}
	if err := proxywasm.AppendHttpResponseBody(answer); err != nil {
		proxywasm.LogErrorf("no answer: %v", err)
	}
	return types.ActionContinue
}

func refuse(status uint32, body string) types.Action {
	if err := proxywasm.SendHttpResponse(status, nil, []byte(body), -1); err != nil {
		proxywasm.LogErrorf("no answer: %v", err)
	}
	return types.ActionPause
}
