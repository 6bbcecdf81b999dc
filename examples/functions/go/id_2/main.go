// The function id_2: says how many copies of a book the store counts.
package main

import (
	"fmt"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"functions/layotto"
)

const store = "state_demo"

func main() {}

func init() {
	proxywasm.SetHttpContext(func(uint32) types.HttpContext { return &inventory{} })
}

//go:wasmexport proxy_get_id
func getID() { layotto.SayID("id_2") }

type inventory struct{ types.DefaultHttpContext }

func (*inventory) OnHttpRequestBody(length int, _ bool) types.Action {
	book, _ := proxywasm.GetHttpRequestBody(0, length)
	proxywasm.LogInfof("asked for %s", book)
	count, err := layotto.GetState(store, string(book))
	if err != nil {
		proxywasm.LogErrorf("%s did not answer: %v", store, err)
		return refuse(502, "the store did not answer")
	}
	answer := fmt.Sprintf("There are %s inventories for %s.", count, book)
	if err := proxywasm.AppendHttpResponseBody([]byte(answer)); err != nil {
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
