import chatapi from "./index.cjs";

export const { start, TestServer } = chatapi;
