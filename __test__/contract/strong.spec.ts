import { contractOf } from './chapters'

contractOf('strong')
