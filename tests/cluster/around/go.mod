module llm-guard.io/tests/around

go 1.21
