// Package layotto has what the SDK does not: the calls that only Layotto answers.
package layotto

import (
	"fmt"
	"unsafe"
)

// What takes the id of a function, while the host asks for it.
const callData = 8

//go:wasmimport env proxy_set_buffer_bytes
func setBufferBytes(buffer, start, size uint32, data unsafe.Pointer, length uint32) uint32

//go:wasmimport env proxy_invoke_service
func invokeService(id unsafe.Pointer, idLength uint32, method unsafe.Pointer, methodLength uint32,
	parameter unsafe.Pointer, parameterLength uint32, result, resultLength unsafe.Pointer) uint32

//go:wasmimport env proxy_get_state
func getState(store unsafe.Pointer, storeLength uint32, key unsafe.Pointer, keyLength uint32,
	value, valueLength unsafe.Pointer) uint32

// SayID answers the host's question for the id of the function.
func SayID(id string) {
	setBufferBytes(callData, 0, uint32(len(id)), pointer(id), uint32(len(id)))
}

// InvokeService asks another function or service.
func InvokeService(id, method, parameter string) ([]byte, error) {
	var result *byte
	var length uint32
	status := invokeService(pointer(id), uint32(len(id)), pointer(method), uint32(len(method)),
		pointer(parameter), uint32(len(parameter)), unsafe.Pointer(&result), unsafe.Pointer(&length))
	return taken("InvokeService", status, result, length)
}

// GetState reads a store; a key that is not there has an empty value.
func GetState(store, key string) ([]byte, error) {
	var value *byte
	var length uint32
	status := getState(pointer(store), uint32(len(store)), pointer(key), uint32(len(key)),
		unsafe.Pointer(&value), unsafe.Pointer(&length))
	return taken("GetState", status, value, length)
}

func pointer(text string) unsafe.Pointer {
	return unsafe.Pointer(unsafe.StringData(text))
}

// taken is what the host put where the SDK's allocator said.
func taken(what string, status uint32, data *byte, length uint32) ([]byte, error) {
	if status != 0 {
		return nil, fmt.Errorf("%s: status %d", what, status)
	}
	return unsafe.Slice(data, length), nil
}
